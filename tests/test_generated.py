"""Generated characters must be reproducible, look like characters, and be as hard as Omniglot's.

Measured 5-way 1-shot by nearest neighbour on raw 28x28 pixels, over 4,000 tasks from all classes (95 % intervals):
Omniglot 37.9 to 38.4 ± 0.6 % in three runs, generated 37.6 to 39.6 ± 0.6 % for seeds 0 to 4.
Ink, mean and standard deviation over drawings: Omniglot 8.1 ± 2.9 % of the pixels, generated 8.0 to 8.2 ± 3.5 %.
"""

import pytest
import torch

from reptile_helpers.generated import generate_characters

CLASSES, DRAWINGS = 200, 20
SEEDS = range(5)


@pytest.fixture(scope="module")
def many():
    """For each seed, 200 classes of 20 drawings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine the threads of so many small operations wait for each other
    images = {seed: generate_characters(CLASSES, DRAWINGS, seed) for seed in SEEDS}
    torch.set_num_threads(threads)
    return images


def test_shape_type_and_values(many):
    assert many[0].shape == (CLASSES, DRAWINGS, 28, 28)
    assert many[0].dtype == torch.uint8
    assert many[0].unique().tolist() == [0, 255]
    assert generate_characters(1, 1).shape == (1, 1, 28, 28)


def test_default_sizes_are_omniglots():
    assert generate_characters.__defaults__ == (1623, 20, 0)


def test_same_seed_same_bits_whatever_the_global_generator(many):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(generate_characters(CLASSES, DRAWINGS, 0), many[0])
    assert torch.equal(torch.get_rng_state(), before)  # and the caller's random numbers are left alone


def test_another_seed_draws_other_characters(many):
    for seed in SEEDS[1:]:
        same = (many[seed] == many[0]).all(-1).all(-1)
        assert not same.any()


@pytest.mark.parametrize("fewer", [1, 50, 51])
def test_fewer_classes_are_the_first_of_more(many, fewer):
    assert torch.equal(generate_characters(fewer, DRAWINGS, 0), many[0][:fewer])


def test_no_drawing_comes_twice(many):
    for images in many.values():
        assert len(images.flatten(2).flatten(0, 1).unique(dim=0)) == CLASSES * DRAWINGS


def test_drawings_of_a_class_share_a_shape_and_classes_do_not(many):
    """The mean of ten drawings is nearest, of 200, to the mean of the other ten of its class.

    Measured for 64 to 72 % of the classes, on Omniglot for 68 to 76 %; chance is 0.5 %.
    """
    for seed, images in many.items():
        first, second = images.float().flatten(2).split(DRAWINGS // 2, 1)
        nearest = torch.cdist(first.mean(1), second.mean(1)).argmin(1)
        found = (nearest == torch.arange(CLASSES)).float().mean().item()
        print(f"seed {seed}: {found:.1%} of the classes found again")
        assert found > 0.5


def test_ink_is_like_omniglots_and_inside_the_frame(many):
    for images in many.values():
        ink = images == 0
        share = ink.float().mean((-1, -2))
        assert 0.07 < share.mean() < 0.09
        assert 0.02 < share.std() < 0.04
        within = share.var(1).mean().sqrt()  # pens differ: 0.016 to 0.017, on Omniglot 0.013 to 0.015
        assert 0.0145 < within < 0.0185
        assert share.min() > 0.01  # the sparsest drawing measured has 11 pixels of 784
        assert share.max() < 0.4
        frame = ink.clone()
        frame[..., 1:-1, 1:-1] = False
        assert not frame.any()


def test_strokes_have_no_holes(many):
    """A pen whose points lie too far apart leaves pixels of ink that touch no other."""
    for images in many.values():
        ink = (images == 0).float().flatten(0, 1)[:, None]
        around = torch.nn.functional.avg_pool2d(ink, 3, stride=1, padding=1) * 9
        assert not ((ink == 1) & (around < 1.5)).any()


def test_drawings_of_one_class_are_nearer_than_of_two(many):
    """Measured: 0.92 to 0.93 of the distance between two classes, and 0.92 to 0.94 on Omniglot."""
    for images in many.values():
        x = images.float().flatten(2)
        within = (x[:, 0] - x[:, 1]).norm(dim=1).mean()
        between = torch.cdist(x[:, 0], x[:, 1])[~torch.eye(CLASSES, dtype=torch.bool)].mean()
        print(f"within / between: {within / between:.3f}")
        assert 0.88 < within / between < 0.97


def test_pixels_alone_are_as_weak_as_on_omniglot(many):
    """5-way 1-shot by nearest neighbour over 1,000 tasks: measured 37.4 to 39.2 ± 1.2 % for the five seeds."""
    ways, tasks = 5, 1000
    for seed, images in many.items():
        generator = torch.Generator().manual_seed(seed)
        classes = torch.rand(tasks, CLASSES, generator=generator).argsort(1)[:, :ways]
        drawings = torch.rand(tasks, ways, DRAWINGS, generator=generator).argsort(2)
        x = images.float().flatten(2)
        support, query = x[classes, drawings[..., 0]], x[classes, drawings[..., 1]]
        accuracy = (torch.cdist(query, support).argmin(2) == torch.arange(ways)).float().mean().item()
        print(f"seed {seed}: {accuracy:.1%}")
        assert 0.33 < accuracy < 0.43


@pytest.mark.parametrize("name, value", [("classes", 0), ("classes", -3), ("drawings", 0), ("seed", -1)])
def test_too_small_a_number_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be at least [01], but {value} was given\.$"):
        generate_characters(**{"classes": 1, "drawings": 1, name: value})


@pytest.mark.parametrize("name", ["classes", "drawings", "seed"])
@pytest.mark.parametrize("value", [2.0, "5", None, True])
def test_what_is_not_an_int_is_named(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be an int of at least [01], but .+ was given\.$"):
        generate_characters(**{"classes": 1, "drawings": 1, name: value})

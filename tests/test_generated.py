"""Generated characters must be reproducible, look like characters, and be as hard as Omniglot's.

Measured 5-way 1-shot by nearest neighbour on raw 28x28 pixels, over 4,000 tasks from all classes (95 % intervals):
Omniglot 37.9 to 38.4 ± 0.6 % in three runs, generated 37.6 to 39.6 ± 0.6 % for seeds 0 to 4.
Ink, mean and standard deviation over drawings: Omniglot 8.1 ± 2.9 % of the pixels, generated 8.0 to 8.2 ± 3.5 %.
"""

import numpy as np
import pytest
import torch

from reptile_helpers.generated import STROKES, _handwriting, _invent, generate_characters

CLASSES, DRAWINGS = 200, 20
# Of the first characters: pixels of ink in three drawings of each, and the centre (y, x) of the first drawing's ink.
INK = [[49, 43, 53], [55, 69, 88], [64, 86, 102], [96, 66, 89], [35, 46, 36], [41, 58, 63]]
CENTRES = [[13.46, 14.38], [14.83, 14.7], [12.6, 13.05], [12.57, 12.19], [12.24, 11.21], [15.94, 13.5]]
SEEDS = range(5)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


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


@pytest.mark.parametrize("name, minimum", [("classes", 1), ("drawings", 1), ("seed", 0)])
@pytest.mark.parametrize("value", [-3, -1, 2.0, "5", None, True, np.float64(1)])
def test_what_is_not_a_whole_number_is_named(name, minimum, value):
    for wrong in (value, minimum - 1):
        with pytest.raises(ValueError) as error:
            generate_characters(**{"classes": 1, "drawings": 1, name: wrong})
        assert str(error.value) == f"{name} is {wrong!r}; it must be a whole number of at least {minimum}"


def test_numpys_integers_are_whole_numbers():
    images = generate_characters(np.int64(3), np.uint8(2), np.int32(4))
    assert torch.equal(images, generate_characters(3, 2, 4))


def test_the_characters_are_those_of_the_first_edition():
    """Published results were measured on them. Other processors round differently, which may move a pixel or two."""
    ink = (generate_characters(6, 3) == 0).sum((2, 3))
    assert (ink - torch.tensor(INK)).abs().max() <= 2
    centre = (generate_characters(6, 1)[:, 0] == 0).nonzero().float()
    for number, expected in enumerate(CENTRES):
        assert (centre[centre[:, 0] == number, 1:].mean(0) - torch.tensor(expected)).abs().max() < 0.3


def features(images):
    """What a hand changes in a whole drawing: where it is, how large, how wide, how slanted, how thick the line.

    images: [class, drawing, 28, 28]. Returns float [feature, class, drawing]: the differences from the mean of the
    class, with a standard deviation of 1.
    """
    ink = (images == 0).double()
    total, place = ink.sum((2, 3)), torch.arange(28.0).double()
    x, y = ((ink.sum(d) * place).sum(2) / total for d in (2, 3))
    dx, dy = place - x[..., None], place - y[..., None]
    width, height = ((ink.sum(d) * c.square()).sum(2) / total for d, c in ((2, dx), (3, dy)))
    slant = torch.einsum("cdyx,cdy,cdx->cd", ink, dy, dx) / total
    values = torch.stack([x, y, (width + height).log(), (width - height) / (width + height), slant, total.log()])
    values = values - values.mean(2, keepdim=True)
    return values / values.std((1, 2), keepdim=True)


def test_every_character_is_drawn_by_hands_of_its_own(many):
    """If drawing 3 of all characters came from one hand, it would for example be small in all of them.

    The mean over 50 classes of independent numbers has a variance of 1/50; measured up to 0.04. If the classes
    shared one hand, it would be 0.1 (slant) to 0.9.
    """
    for images in many.values():
        for part in features(images).split(50, 1):  # a chunk comes from one random generator
            shared = part.mean(1).var(1)
            assert shared.max() < 0.06, shared


def test_strokes_of_one_plan_are_drawn_by_hands_of_their_own():
    """The same for the parts of a character: every corner, bend and length, and where strokes meet."""
    plan = {name: value[:1].expand(40, *value.shape[1:]) for name, value in _invent(50, seeded(2)).items()}
    points = _handwriting(plan, 6, seeded(3))
    strokes = points.unflatten(2, (STROKES, -1))
    shape = strokes.diff(dim=3)[:, :, :, ::36].flatten(2)
    start = (strokes - strokes[:, :, :1, :1])[:, :, 1:, 0].flatten(2)
    for values in (shape, start, points.mean(2)):
        values = values[..., values.std((0, 1)) > 1e-6]
        assert values.shape[-1] > 0
        values = (values - values.mean((0, 1))) / values.std((0, 1))
        # One hand for all 40 copies would give a variance of nearly 1, one person for all 6 drawings likewise.
        assert values.mean(0).var(0).max() < 0.2 and values.mean(1).var(0).max() < 0.6

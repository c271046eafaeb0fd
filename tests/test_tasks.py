import pytest
import torch

from reptile_helpers.tasks import FewShotTasks, SineTasks


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered_images(classes=7, drawings=6):
    """Each image carries its class and drawing in two pixels, so that a task tells where its images come from."""
    images = torch.zeros(classes, drawings, 28, 28, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.arange(classes)[:, None]
    images[:, :, 0, 1] = torch.arange(drawings)
    return images


def origin(x):
    """(class, drawing) of each image of a set [examples, 1, 28, 28]."""
    return [tuple(pair) for pair in (x[:, 0, 0, :2] * 255).round().int().tolist()]


def test_sine_tasks_are_sines_with_the_papers_amplitudes_and_phases():
    batch = SineTasks(shots=10, queries=50).sample(4000, seeded())
    assert [list(t.shape) for t in batch] == [[4000, 10, 1], [4000, 10, 1], [4000, 50, 1], [4000, 50, 1]]
    # a sin(x + b) = p sin(x) + q cos(x): solve for p and q on the queries, then they must explain the support set, too
    basis = torch.stack([batch.query_x[0, :, 0].sin(), batch.query_x[0, :, 0].cos()], 1)
    pq = torch.linalg.lstsq(basis.expand(4000, -1, -1), batch.query_y).solution
    predicted = torch.cat([batch.support_x.sin(), batch.support_x.cos()], 2) @ pq
    assert torch.allclose(predicted, batch.support_y, atol=1e-4)
    amplitude = pq.square().sum(1).sqrt().flatten()
    phase = torch.atan2(pq[:, 1], pq[:, 0]).flatten() % (2 * torch.pi)
    for sample, low, high in ((amplitude, 0.1, 5), (phase, 0, 2 * torch.pi), (batch.support_x.flatten(), -5, 5)):
        assert low - 1e-3 <= sample.min() and sample.max() <= high + 1e-3
        quartiles = torch.quantile(sample[:4000], torch.tensor([0.25, 0.5, 0.75]))
        expected = torch.tensor([low + (high - low) * share for share in (0.25, 0.5, 0.75)])
        assert torch.allclose(quartiles, expected, atol=0.05 * (high - low))


@pytest.mark.parametrize("source", [SineTasks(), FewShotTasks(numbered_images(), 3, 1)])
def test_the_same_seed_gives_the_same_tasks(source):
    first, again, other = source.sample(4, seeded(1)), source.sample(4, seeded(1)), source.sample(4, seeded(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.support_x, other.support_x)


@pytest.mark.parametrize("ways, shots, queries", [(5, 1, 1), (7, 2, 4), (2, 5, 1), (3, 3, 2)])
def test_no_task_leaks(ways, shots, queries):
    batch = FewShotTasks(numbered_images(), ways, shots, queries).sample(200, seeded())
    assert batch.support_x.shape == (200, ways * shots, 1, 28, 28) and batch.query_x.shape[1] == ways * queries
    for support_x, support_y, query_x, query_y in zip(*batch, strict=True):
        support, query = origin(support_x), origin(query_x)
        assert len(set(support + query)) == ways * (shots + queries), "a drawing occurs twice in a task"
        class_of = {y: c for y, (c, _) in zip(support_y.tolist(), support, strict=True)}
        assert len(set(class_of.values())) == ways, "a class has two labels"
        assert all(class_of[y] == c for y, (c, _) in zip(support_y.tolist(), support, strict=True))
        assert all(class_of[y] == c for y, (c, _) in zip(query_y.tolist(), query, strict=True))
        assert support_y.bincount().tolist() == [shots] * ways and query_y.bincount().tolist() == [queries] * ways


def test_every_class_drawing_and_label_is_equally_likely():
    batch = FewShotTasks(numbered_images(), ways=3, shots=2, queries=1).sample(5000, seeded())
    where = torch.tensor([origin(x) for x in batch.support_x])
    assert torch.allclose(where[..., 0].flatten().bincount() / 30000, torch.tensor(1 / 7), atol=0.01)
    assert torch.allclose(where[..., 1].flatten().bincount() / 30000, torch.tensor(1 / 6), atol=0.01)
    label_of_class_0 = batch.support_y[where[..., 0] == 0]
    assert torch.allclose(label_of_class_0.bincount() / len(label_of_class_0), torch.tensor(1 / 3), atol=0.03)


def test_images_become_floats_with_paper_1_and_ink_0():
    images = torch.randint(2, (4, 3, 28, 28)).to(torch.uint8) * 255
    x = FewShotTasks(images, 2, 1).sample(1, seeded()).support_x
    assert x.dtype == torch.float32 and x.unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FewShotTasks(numbered_images(), 8, 1), "8 ways were asked for, but there are only 7 classes"),
        (lambda: FewShotTasks(numbered_images(), 5, 5, 2), "5 shots and 2 queries .* only 6 drawings"),
        (lambda: FewShotTasks(numbered_images(), 0, 1), "ways is 0; it must be a whole number of at least 1"),
        (lambda: FewShotTasks(numbered_images(), 5, -1), "shots is -1"),
        (lambda: FewShotTasks(numbered_images(), 5, 1.0), "shots is 1.0"),
        (lambda: FewShotTasks(numbered_images(), 5, True), "shots is True"),
        (lambda: FewShotTasks(numbered_images().float(), 5, 1), "torch.float32 .* must be a uint8 tensor"),
        (lambda: FewShotTasks(numbered_images()[0], 5, 1), "must be a uint8 tensor"),
        (lambda: FewShotTasks([1, 2], 5, 1), "images is list"),
        (lambda: FewShotTasks(numbered_images(), 5, 1).sample(0, seeded()), "tasks is 0"),
        (lambda: SineTasks(shots=0), "shots is 0"),
        (lambda: SineTasks().sample(-3, seeded()), "tasks is -3"),
        (lambda: FewShotTasks(numbered_images().to("meta"), 5, 1).sample(1, seeded()), "same device"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()

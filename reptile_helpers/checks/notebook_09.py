"""Checks for the exercises of notebook 09."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require


def _require_tensor(result):
    require(isinstance(result, torch.Tensor), f"return a tensor, not a {type(result).__name__}")


@exercise
def centred(f):
    for count, scale, box in ((2, 1.0, (1.0, 0.6)), (9, 0.2, (0.3, 1.0)), (30, 40.0, (1.0, 0.6)), (5, 1.0, (0.0, 1.0))):
        points = scale * torch.rand(count, 2, dtype=torch.float64) ** 2 * torch.tensor(box) + 3
        given, result = points.clone(), f(points)
        _require_tensor(result)
        require(torch.equal(points, given), "the given points have changed")
        require(result.shape == points.shape, f"the shape should stay {list(points.shape)}, not {list(result.shape)}")
        require(bool(result.isfinite().all()), "the points can lie on a vertical line: divide by the larger side")
        low, high = result.amin(0), result.amax(0)
        mean = torch.full((2,), 14.0, dtype=torch.float64)
        require(count == 2 or not close(result.mean(0), mean), "the middle of the box is not the mean of the points")
        require(close((low + high) / 2, mean), "the middle of the box should be at (14, 14)")
        require(not close(high - low, [17, 17]), "both sides are 17 long: the proportions have changed")
        side = points.amax(0) - points.amin(0)
        require(
            close((high - low).amax(), 17),
            "the larger side of the box should be 17 long, be it the width or the height",
        )
        require(close((high - low) / 17, side / side.amax()), "the proportions have changed")
        expected = 14 + (points - (points.amax(0) + points.amin(0)) / 2) * 17 / side.amax()
        require(close(result, expected), "the points should keep their places in the box, and their order")


def _distance_to_line(points, a, b):
    way = b - a
    along = ((points - a) @ way / (way @ way)).clamp(0, 1)
    return (points - a - along[:, None] * way).norm(dim=1)


@exercise(reference=_distance_to_line)
def distance_to_line(f):
    for count in (7, 40):
        a, b = torch.randn(2, 2, dtype=torch.float64)
        along = torch.linspace(-1, 2, count, dtype=torch.float64)[:, None]
        aside = (b - a).flip(0) * torch.tensor([1.0, -1.0]) * torch.randn(count, 1, dtype=torch.float64)
        points = a + along * (b - a) + aside
        result = f(points, a, b)
        _require_tensor(result)
        require(result.shape == (count,), f"the shape should be [{count}], not {list(result.shape)}")
        endless = aside.norm(dim=1)
        require(not close(result, endless), "the line ends at a and b; it does not go on forever")
        to_ends = torch.minimum((points - a).norm(dim=1), (points - b).norm(dim=1))
        require(not close(result, to_ends), "that is the distance from the nearer end, not from the line between")
        beyond = (along < 0) | (along > 1)
        require(close(result, torch.where(beyond[:, 0], to_ends, endless)), "that is not the distance from the line")


def _with_none(probabilities, threshold):
    values, labels = probabilities.max(-1)
    return torch.where(values < threshold, -1, labels)


@exercise(reference=_with_none)
def with_none(f):
    for ways in (3, 5):
        probabilities = torch.randn(200, ways).mul(2).softmax(-1)
        values, labels = probabilities.max(-1)
        for threshold in (0.0, 0.5, 0.8, values[7].item()):  # the last one is met exactly
            result = f(probabilities, threshold)
            _require_tensor(result)
            require(result.shape == labels.shape, f"the shape should be [200], not {list(result.shape)}")
            require(result.dtype == torch.int64, f"labels are int64, not {result.dtype}")
            require(
                threshold > 0 or torch.equal(result, labels), "with threshold 0 every query has its most probable label"
            )
            require(bool((result[values < threshold] == -1).all()), "below the threshold the label should be −1")
            equal = values == threshold
            require(torch.equal(result[equal], labels[equal]), "at the threshold itself the label is kept")
            require(torch.equal(result, torch.where(values < threshold, -1, labels)), "too many labels are −1")

"""Checks for the exercises of notebook 09."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require


@exercise
def centred(f):
    for count, scale in ((2, 1.0), (9, 0.2), (30, 40.0)):
        points = scale * torch.rand(count, 2, dtype=torch.float64) ** 2 * torch.tensor([1.0, 0.6]) + 3
        given, result = points.clone(), f(points)
        require(torch.equal(points, given), "the given points have changed")
        require(result.shape == points.shape, f"the shape should stay {list(points.shape)}, not {list(result.shape)}")
        low, high = result.amin(0), result.amax(0)
        mean = torch.full((2,), 14.0, dtype=torch.float64)
        require(count == 2 or not close(result.mean(0), mean), "the middle of the box is not the mean of the points")
        require(close((low + high) / 2, mean), "the middle of the box should be at (14, 14)")
        require(not close(high - low, [17, 17]), "both sides are 17 long: the proportions have changed")
        require(close((high - low).amax(), 17), "the larger side of the box should be 17 long")
        box = points.amax(0) - points.amin(0)
        require(close((high - low) / 17, box / box.amax()), "the proportions have changed")
        expected = 14 + (points - (points.amax(0) + points.amin(0)) / 2) * 17 / box.amax()
        require(close(result, expected), "the points should keep their places in the box, and their order")


@exercise
def distance_to_line(f):
    for count in (7, 40):
        a, b = torch.randn(2, 2, dtype=torch.float64)
        along = torch.linspace(-1, 2, count, dtype=torch.float64)[:, None]
        aside = (b - a).flip(0) * torch.tensor([1.0, -1.0]) * torch.randn(count, 1, dtype=torch.float64)
        points = a + along * (b - a) + aside
        result = f(points, a, b)
        require(result.shape == (count,), f"the shape should be [{count}], not {list(result.shape)}")
        endless = aside.norm(dim=1)
        require(not close(result, endless), "the line ends at a and b, and does not go on for ever")
        to_ends = torch.minimum((points - a).norm(dim=1), (points - b).norm(dim=1))
        require(not close(result, to_ends), "that is the distance from the nearer end, not from the line between")
        beyond = (along < 0) | (along > 1)
        require(close(result, torch.where(beyond[:, 0], to_ends, endless)), "that is not the distance from the line")


@exercise
def with_none(f):
    for ways in (3, 5):
        probabilities = torch.randn(200, ways).mul(2).softmax(-1)
        values, labels = probabilities.max(-1)
        for threshold in (0.0, 0.5, 0.8):
            result = f(probabilities, threshold)
            require(result.shape == labels.shape, f"the shape should be [200], not {list(result.shape)}")
            require(not result.is_floating_point(), "labels are whole numbers")
            require(
                threshold > 0 or torch.equal(result, labels), "with threshold 0 every query has its most probable label"
            )
            require(bool((result[values < threshold] == -1).all()), "below the threshold the label should be −1")
            require(torch.equal(result, torch.where(values < threshold, -1, labels)), "too many labels are −1")

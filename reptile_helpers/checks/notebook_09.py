"""Checks for the exercises of notebook 09."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require


def _require_tensor(result):
    require(isinstance(result, torch.Tensor), f"return a tensor, not a {type(result).__name__}")


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


@exercise
def right_when_sure(f):
    for shape in ((300,), (60, 5)):
        probabilities = torch.randn(*shape, 5).mul(2).softmax(-1)
        sure, answers = probabilities.max(-1)
        labels = (answers + (torch.rand(shape) < 0.3)) % 5
        right, exact = answers == labels, sure.flatten()[7].item()
        for low, high in ((0.5, 0.9), (0.9, 1.01), (exact, 1.01), (0.0, exact)):
            result = f(probabilities, labels, low, high)
            require(
                isinstance(result, tuple | list) and len(result) == 2 or getattr(result, "shape", None) == (2,),
                f"return two numbers, the share of right answers and the mean probability, not {result!r}",
            )
            chosen = (low <= sure) & (sure < high)
            share, mean = right[chosen].double().mean(), sure[chosen].double().mean()
            require(not (close(result[0], mean) and close(result[1], share)), "the share of right answers comes first")
            require(not close(result[0], 100 * share), "the share should be between 0 and 1, not in percent")
            wider, narrower = (low <= sure) & (sure <= high), (low < sure) & (sure < high)
            require(
                chosen.equal(wider) or not close(result[0], right[wider].double().mean()),
                "a query with exactly the probability `high` does not count",
            )
            require(
                chosen.equal(narrower) or not close(result[0], right[narrower].double().mean()),
                "a query with exactly the probability `low` counts",
            )
            require(
                not close(result[0], (right & chosen).double().mean()),
                "divide by the number of queries that count, not by the number of all queries",
            )
            require(close(result[0], share), "the first number is not the share of right answers")
            of_label = probabilities.gather(-1, labels[..., None])[..., 0][chosen].double().mean()
            require(not close(result[1], of_label), "take the probability of the answer, not that of the right label")
            require(close(result[1], mean), "the second number is not the mean probability of these answers")

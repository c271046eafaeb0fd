"""Checks for the exercises of notebook 06."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require


def _adam_step(theta, g, v, t, alpha):
    v = 0.999 * v + 0.001 * g**2
    return theta - alpha * g / ((v / (1 - 0.999**t)).sqrt() + 1e-8), v


def _one_query_batches(support_x, query_x):
    return torch.stack([torch.cat([support_x, query.unsqueeze(0)]) for query in query_x])


@exercise(reference=_adam_step)
def adam_step(f):
    for t in (1, 2, 1000):
        theta, g = torch.randn(2, 3, 4, dtype=torch.float64)
        v = torch.rand(3, 4, dtype=torch.float64) if t > 1 else torch.zeros(3, 4, dtype=torch.float64)
        g[0, 0] = v[0, 0] = 0  # a weight whose gradient has always been zero
        g[1, 1], v[1, 1] = 1e-8, 0  # where the 1e-8 counts
        before = theta.clone(), g.clone(), v.clone()
        result = f(theta, g, v, t, 0.01)
        require(isinstance(result, tuple | list) and len(result) == 2, "return the new theta and the new v")
        require(
            all(torch.equal(a, b) for a, b in zip((theta, g, v), before, strict=True)),
            "a tensor that was given has changed; return new ones",
        )
        new_v = 0.999 * v + 0.001 * g**2
        require(close(result[1], new_v), "the second moment should be 0.999 · v + 0.001 · g²")
        require(
            not torch.as_tensor(result[0]).isnan().any(),
            "a weight whose gradient has always been zero becomes NaN; what is the 1e-8 for?",
        )
        require(not close(result[0], theta - 0.01 * g / (new_v.sqrt() + 1e-8)), "v has not been divided by 1 − 0.999^t")
        corrected = new_v / (1 - 0.999**t)
        require(not close(result[0], theta - 0.01 * g / (corrected + 1e-8).sqrt()), "1e-8 belongs outside the root")
        require(
            close(result[0], theta - 0.01 * g / (corrected.sqrt() + 1e-8)),
            f"in step t = {t} theta is not θ − α · g / (√(v / (1 − 0.999^t)) + 1e-8), with the new v",
        )


@exercise(reference=_one_query_batches)
def one_query_batches(f):
    for support, queries in ((5, 5), (3, 4)):
        support_x, query_x = torch.rand(support, 1, 6, 6), torch.rand(queries, 1, 6, 6)
        result = f(support_x, query_x)
        require(isinstance(result, torch.Tensor), f"return a tensor, not a {type(result).__name__}")
        shape = [queries, support + 1, 1, 6, 6]
        require(
            list(result.shape) == shape,
            f"with {support} support images and {queries} queries the shape should be {shape}, "
            f"not {list(result.shape)}",
        )
        for q in range(queries):
            require(torch.equal(result[q, :-1], support_x), "each row should begin with the whole support set")
            require(
                torch.equal(result[q, -1], query_x[q]), f"row {q} should end with query {q} and contain no other query"
            )


@exercise
def annealed(f):
    for n, epsilon in ((10, 1.0), (2000, 0.25)):
        require(
            close(f(0, n, epsilon), epsilon),
            f"the first meta-iteration (i = 0) should have the whole epsilon, {epsilon}",
        )
        require(
            not close(f(n - 1, n, epsilon), 0),
            "the last meta-iteration (i = n − 1) would do nothing; zero belongs to i = n",
        )
        for i in (1, n // 2, n - 1):
            require(
                close(f(i, n, epsilon), epsilon - epsilon * i / n),
                f"the step size for i = {i} of {n} is not on the line",
            )

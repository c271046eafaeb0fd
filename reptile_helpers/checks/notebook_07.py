"""Checks for the exercises of notebook 07."""

import math

import torch

from reptile_helpers.checks.exercise import close, exercise, require


def _paired(scores_a, scores_b):
    difference = scores_a - scores_b
    return difference.mean().item(), 1.96 * difference.std().item() / math.sqrt(len(difference))


@exercise(reference=_paired)
def paired(f):
    for count in (10, 300):
        a = torch.randn(count, dtype=torch.float64)
        b = a + 0.5 + 0.1 * torch.randn(count, dtype=torch.float64)
        result = f(a, b)
        require(
            isinstance(result, tuple | list) and len(result) == 2, "return two numbers, the mean and the half-width"
        )
        mean, half = (float(number) for number in result)
        require(not close(-mean, (a - b).mean()), "the sign is wrong: a positive number means that a is better")
        require(close(mean, (a - b).mean()), "the first number should be the mean of a − b")
        apart = 1.96 * ((a.var() + b.var()) / count).sqrt().item()
        require(abs(half / apart - 1) > 1e-3, "that treats a and b as measured on different tasks; use the differences")
        widths = [1.96 * (a - b).std(correction=c).item() / math.sqrt(count) for c in (0, 1)]
        require(
            min(abs(half / width - 1) for width in widths) < 1e-3,
            "the half-width should be 1.96 standard errors of the differences",
        )


def _batch_norm(x, n, gamma, beta, eps=1e-3):
    variance, mean = torch.var_mean(x[:n], (0, 2, 3), correction=0, keepdim=True)
    return gamma[:, None, None] * (x - mean) / (variance + eps).sqrt() + beta[:, None, None]


@exercise(reference=_batch_norm)
def batch_norm(f):
    for examples, n, channels in ((6, 5, 3), (4, 4, 2), (7, 2, 1)):
        x = 3 + 2 * torch.randn(examples, channels, 4, 5, dtype=torch.float64)
        gamma, beta = torch.randn(2, channels, dtype=torch.float64)
        before = x.clone()
        result = f(x, n, gamma, beta)
        require(torch.equal(x, before), "x itself has changed; return a new tensor")
        require(isinstance(result, torch.Tensor), f"return a tensor, not a {type(result).__name__}")
        require(result.shape == x.shape, f"the shape should stay {list(x.shape)}, not {list(result.shape)}")

        def expected(of, dims=(0, 2, 3), correction=0, eps=1e-3, x=x, gamma=gamma, beta=beta):
            variance, mean = torch.var_mean(of, dims, correction=correction, keepdim=True)
            return (x - mean) / (variance + eps).sqrt() * gamma[:, None, None] + beta[:, None, None]

        require(n == examples or not close(result, expected(x)), "only the first n examples should give the statistics")
        require(not close(result, expected(x[:n], correction=1)), "the variance should divide by the number of values")
        require(not close(result, expected(x[:n], eps=0)), "eps is missing under the root")
        require(
            channels == 1 or not close(result, expected(x[:n], (0, 1, 2, 3))), "each channel has statistics of its own"
        )
        require(close(result, expected(x[:n])), "that is not γ · (x − μ) / √(σ² + ε) + β, channel by channel")


@exercise
def with_query(f):
    for n, channels in ((5, 3), (25, 2), (1, 1)):
        images = torch.randn(n + 1, channels, 6, 6, dtype=torch.float64) + torch.randn(n + 1, channels, 1, 1).double()
        var_s, mean_s = torch.var_mean(images[:n], (0, 2, 3), correction=0)
        var_q, mean_q = torch.var_mean(images[n:], (0, 2, 3), correction=0)
        result = f(mean_s, var_s, n, mean_q, var_q)
        require(isinstance(result, tuple | list) and len(result) == 2, "return two tensors, the mean and the variance")
        variance, mean = torch.var_mean(images, (0, 2, 3), correction=0)
        require(
            n == 1 or not close(result[0], (mean_s + mean_q) / 2), f"the support set has {n} images, the query is one"
        )
        require(close(result[0], mean), "the mean should be the weighted mean over n + 1 images")
        require(
            not close(result[1], (n * var_s + var_q) / (n + 1)),
            "a mean of variances forgets that support set and query have different means",
        )
        require(close(result[1], variance), "that is not the variance of the n + 1 images; is it E[x²] − μ²?")


@exercise
def batches_needed(f):
    for momentum, share in ((0.1, 0.01), (0.1, 0.5), (0.5, 0.125), (0.01, 0.1), (0.9, 0.5)):
        n = f(momentum, share)
        require(n == int(n), f"{n} is not a whole number of batches")
        left = (1 - momentum) ** n
        require(
            momentum == 0.5 or n != math.ceil(math.log(share) / math.log(momentum)),
            "each batch multiplies the start value by 1 − momentum, not by momentum",
        )
        require(
            left <= share * (1 + 1e-9),
            f"with momentum {momentum}, {n} batches are too few: {left:.4g} of the start value is left, "
            f"more than {share}",
        )
        fewer = (1 - momentum) ** (n - 1)
        require(
            fewer > share * (1 + 1e-9), f"with momentum {momentum}, {n} batches are enough, but {n - 1} are as well"
        )

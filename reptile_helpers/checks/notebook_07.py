"""Checks for the exercises of notebook 07."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require


@exercise
def batch_norm(f):
    for examples, n, channels in ((6, 5, 3), (4, 4, 2), (7, 2, 1)):
        x = 3 + 2 * torch.randn(examples, channels, 4, 5, dtype=torch.float64)
        gamma, beta = torch.randn(2, channels, dtype=torch.float64)
        result = f(x, n, gamma, beta)
        require(result.shape == x.shape, f"the shape should stay {list(x.shape)}, not {list(result.shape)}")

        def expected(of, correction=0, eps=1e-3, x=x, gamma=gamma, beta=beta):
            variance, mean = torch.var_mean(of, (0, 2, 3), correction=correction, keepdim=True)
            return (x - mean) / (variance + eps).sqrt() * gamma[:, None, None] + beta[:, None, None]

        require(n == examples or not close(result, expected(x)), "only the first n examples should give the statistics")
        require(not close(result, expected(x[:n], correction=1)), "the variance should divide by the number of values")
        require(not close(result, expected(x[:n], eps=0)), "eps is missing under the root")
        require(close(result, expected(x[:n])), "that is not γ · (x − μ) / √(σ² + ε) + β, channel by channel")


@exercise
def paired(f):
    for count in (10, 300):
        a = torch.randn(count, dtype=torch.float64)
        b = a + 0.5 + 0.1 * torch.randn(count, dtype=torch.float64)
        result = f(a, b)
        require(
            isinstance(result, tuple | list) and len(result) == 2, "return two numbers, the mean and the half-width"
        )
        require(not close(-result[0], (a - b).mean()), "the sign is wrong: a positive number means that a is better")
        require(close(result[0], (a - b).mean()), "the first number should be the mean of a − b")
        apart = 1.96 * ((a.var() + b.var()) / count).sqrt()
        require(not close(result[1], apart), "that treats a and b as measured on different tasks; use the differences")
        half = 1.96 * (a - b).std() / count**0.5
        require(
            close(result[1], half) or close(result[1], 1.96 * (a - b).std(correction=0) / count**0.5),
            "the half-width should be 1.96 standard errors of the differences",
        )


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

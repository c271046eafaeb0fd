"""Checks for the exercises of notebook 03."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require


@exercise
def reptile_gradient(f):
    for k, alpha in ((1, 0.1), (4, 0.02)):
        phi, gradients = torch.randn(5, dtype=torch.float64), torch.randn(k, 5, dtype=torch.float64)
        theta = phi - alpha * gradients.sum(0)
        result = f(phi, theta, alpha)
        require(not close(-result, gradients.sum(0)), "the sign is wrong: the steps went *against* the gradients")
        require(not close(result, phi - theta), "that is α times the sum: divide by the rate")
        require(k == 1 or not close(result, gradients.mean(0)), "that is the mean of the gradients, not their sum")
        require(close(result, gradients.sum(0)), "that is not the sum of the inner gradients")


@exercise
def expected_coefficients(f):
    for shares in ([1.0], [0.0, 1.0], [1.0, 1.0], [0.25] * 4, [0.5, -1.0, 2.0, 0.0, 3.0]):
        result = f(shares)
        require(isinstance(result, tuple | list) and len(result) == 2, "return two numbers")
        first, second = sum(shares), -sum(i * share for i, share in enumerate(shares))
        require(
            close(result[0], first), f"for {shares} AvgGrad should have the coefficient {first:g}, not {result[0]:g}"
        )
        require(second == 0 or not close(result[1], -second), "AvgGradInner's sign is wrong: its products come with −α")
        require(
            close(result[1], second),
            f"for {shares} AvgGradInner / α should have {second:g}, not {result[1]:g}: g₁ holds no product, g₂ one, …",
        )


@exercise
def hessian_vector(f):
    for weights in (2, 5):
        M = torch.randn(weights, weights, dtype=torch.float64)
        w, v = torch.randn(2, weights, dtype=torch.float64)

        def loss(w, M=M):
            return (M @ w).cos().sum() + (w**4).sum() / 4

        H = torch.func.jacrev(torch.func.grad(loss))(w)
        result = f(loss, w, v)
        require(
            isinstance(result, torch.Tensor) and list(result.shape) == [weights],
            f"H v should be a tensor [{weights}]; a Hessian has more, a scalar product less",
        )
        require(not close(result, torch.func.grad(loss)(w) * v), "that is the gradient times v, not the Hessian")
        require(not close(result, H @ w), "that is the Hessian times w, not v")
        require(close(result, H @ v), "that is not the Hessian times v")

"""Checks for the exercises of notebook 02."""

import math

import torch

from reptile_helpers.checks.exercise import close, exercise, require


@exercise
def steps_needed(f):
    for alpha, length, rest in ((0.1, 2.0, 0.01), (0.2, 0.7, 0.1), (0.05, 1.3, 0.5)):
        k, left = f(alpha, length, rest), 1 - alpha * length**2
        require(k == int(k), f"{k} is not a whole number of steps")
        wrong = math.ceil(math.log(rest) / math.log(1 - alpha * length))
        require(k != wrong, "the share left after a step is 1 − α |a|², with the square of the length")
        require(left**k <= rest, f"after {k} steps {left**k:.3f} of the distance is left, more than {rest}")
        require(
            left ** (k - 1) > rest, f"{k} steps are more than needed: after {k - 1} only {left ** (k - 1):.3f} is left"
        )


@exercise
def nearest_point(f):
    for tasks, weights in ((5, 2), (9, 4), (20, 3)):
        A, b = torch.randn(tasks, weights, dtype=torch.float64), torch.randn(tasks, dtype=torch.float64)
        A *= 0.3 + 3 * torch.rand(tasks, 1, dtype=torch.float64)
        point, length = f(A, b), A.norm(dim=1)
        require(list(point.shape) == [weights], f"the point should have the shape [{weights}], not {list(point.shape)}")
        joint = torch.linalg.solve(A.T @ A, A.T @ b)
        require(not close(point, joint), "that minimizes the mean loss: it is joint training; divide a and b by |a|")
        unit = A / length[:, None]
        slip = torch.linalg.solve(unit.T @ unit, unit.T @ b)
        require(not close(point, slip), "a is divided by |a|, b is not: that moves the lines")
        expected = torch.linalg.solve(unit.T @ unit, unit.T @ (b / length))
        require(close(point, expected), "there is a point with a smaller mean squared distance to the lines")


@exercise
def gradient_through_theta(f):
    for weights in (2, 5):
        M, phi = torch.randn(weights, weights, dtype=torch.float64), torch.randn(weights, dtype=torch.float64)

        def loss(w, M=M):
            return (M @ w).cos().sum() + (w**4).sum() / 4

        alpha, before = 0.1, phi.clone()
        g = torch.func.grad(loss)(phi)
        H = torch.func.jacrev(torch.func.grad(loss))(phi)
        result = f(loss, phi, alpha)
        require(torch.equal(phi, before), "phi itself has changed; return the gradient instead")
        require(not close(result, alpha * g), "that is φ − θ: θ was held constant, and not differentiated")
        require(not close(result, alpha * H @ g), "one factor α is missing: θ − φ has it, and its derivative too")
        require(not close(result, 2 * alpha**2 * H @ g), "that is twice as large: mind the ½")
        require(close(result, alpha**2 * H @ g), "that is not the gradient through θ, α² H ∇L")


@exercise
def l1_outer_step(f):
    for tasks, weights in ((5, 8), (1, 3), (4, 9)):
        phi, thetas = torch.randn(weights, dtype=torch.float64), torch.randn(tasks, weights, dtype=torch.float64)
        before, result = phi.clone(), f(phi, thetas, 0.25)
        require(torch.equal(phi, before), "phi itself has changed; return a new tensor instead")
        require(list(result.shape) == [weights], f"the new phi should be [{weights}], not {list(result.shape)}")
        step = (phi - thetas).sign().mean(0)
        if close(result, phi - 0.25 * step):  # by chance a wrong rule can give the same
            continue
        require(
            not close(result, phi + 0.25 * (thetas.mean(0) - phi)),
            "that is the step for the squared distance; take signs",
        )
        require(not close(result, phi + 0.25 * step), "the sign is wrong: the distance would grow")
        require(
            not close(result, phi - 0.25 * (phi - thetas.mean(0)).sign()),
            "first the sign for each task, then the mean over the tasks; not the other way round",
        )
        require(False, "that is not φ − ε · mean of sign(φ − θ)")

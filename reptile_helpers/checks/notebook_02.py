"""Checks for the exercises of notebook 02."""

import math

import torch

from reptile_helpers.checks.exercise import close, exercise, require


def _inner_loop(phi, gradient, k, alpha):
    path = [phi]
    for _ in range(k):
        path.append(path[-1] - alpha * gradient(path[-1]))
    return torch.stack(path)


@exercise(reference=_inner_loop)
def inner_loop(f):
    for shape, k, alpha in (((2,), 1, 0.2), ((2,), 4, 0.1), ((5, 2), 3, 0.1)):
        phi, goal = torch.randn([2, *shape], dtype=torch.float64)
        before = phi.clone()
        result = f(phi, lambda w, goal=goal: (w - goal) ** 3 + w - goal, k, alpha)
        require(torch.equal(phi, before), "phi itself has changed; every position must be a new tensor")
        require(isinstance(result, torch.Tensor), "return one tensor: torch.stack puts the positions into one")
        require(list(result.shape) != list(shape), "that is only one position; return all of them, from phi to the end")
        require(list(result.shape) != [k, *shape], f"{k} steps have {k + 1} positions: phi, and one after each step")
        require(list(result.shape) == [k + 1, *shape], f"the shape must be {[k + 1, *shape]}, not {list(result.shape)}")
        require(close(result[0], phi), "the first position must be phi")
        expected = _inner_loop(phi, lambda w, goal=goal: (w - goal) ** 3 + w - goal, k, alpha)
        step, right = result[1] - phi, expected[1] - phi
        require(not close(step, -right), "the sign is wrong: the steps go uphill")
        require(not close(step, right / alpha), "the learning rate alpha is missing")
        require(close(step, right), "the first step must be −alpha · gradient(phi)")
        require(
            k == 1 or not close(result[2] - result[1], right),
            "every step repeats the first one; compute the gradient at the position that has been reached",
        )
        require(close(result, expected), "the first step is right, a later one is not")


@exercise
def steps_needed(f):
    cases = (0.1, 2.0, 0.01), (0.2, 0.7, 0.1), (0.05, 1.3, 0.5), (0.5, 1.0, 0.25), (0.125, 2.0, 0.125)
    for alpha, length, rest in cases:  # in the last two, a whole number of steps leaves exactly `rest`
        k, left = f(alpha, length, rest), 1 - alpha * length**2
        require(isinstance(k, int) and not isinstance(k, bool), f"{k!r} is not an int")
        right = next(n for n in range(1000) if left**n <= rest)
        if k == right:
            continue
        wrong = math.ceil(math.log(rest) / math.log(1 - alpha * length))
        require(k != wrong, "the fraction left after a step is 1 − α |a|², with the square of the length")
        require(k > right, f"after {k} steps {left**k:.4g} of the distance is left, which is more than {rest}")
        exactly = "exactly " if left**right == rest else ""
        require(False, f"{k} steps are more than needed: {right} leave {exactly}{left**right:.4g} of the distance")


@exercise
def nearest_point(f):
    for tasks, weights in ((5, 2), (9, 4), (20, 3)):
        A, b = torch.randn(tasks, weights, dtype=torch.float64), torch.randn(tasks, dtype=torch.float64)
        A *= 0.3 + 3 * torch.rand(tasks, 1, dtype=torch.float64)
        point, length = f(A.clone(), b.clone()), A.norm(dim=1)
        require(list(point.shape) == [weights], f"the point must have the shape [{weights}], not {list(point.shape)}")
        joint = torch.linalg.solve(A.T @ A, A.T @ b)
        require(not close(point, joint), "that minimizes the mean *loss*: it is the end of joint training")
        unit = A / length[:, None]
        slip = torch.linalg.solve(unit.T @ unit, unit.T @ b)
        require(not close(point, slip), "you divided a by |a| but not b, and that moves the lines")
        expected = torch.linalg.solve(unit.T @ unit, unit.T @ (b / length))
        require(close(point, expected), "there is a point with a smaller mean squared distance to the lines")


def _l1_outer_step(phi, thetas, epsilon):
    return phi - epsilon * (phi - thetas).sign().mean(0)


@exercise(reference=_l1_outer_step)
def l1_outer_step(f):
    for tasks, weights in ((5, 8), (1, 3), (4, 9)):
        phi, thetas = torch.randn(weights, dtype=torch.float64), torch.randn(tasks, weights, dtype=torch.float64)
        before, result = phi.clone(), f(phi, thetas, 0.25)
        require(torch.equal(phi, before), "phi itself has changed; return a new tensor instead")
        require(list(result.shape) == [weights], f"the new phi must be [{weights}], not {list(result.shape)}")
        step = (phi - thetas).sign().mean(0)
        if close(result, phi - 0.25 * step):  # by chance a wrong rule can give the same
            continue
        require(
            not close(result, phi + 0.25 * (thetas.mean(0) - phi)),
            "that is the step for the squared distance; use signs",
        )
        require(not close(result, phi + 0.25 * step), "the sign is wrong: the distance would grow")
        require(
            not close(result, phi - 0.25 * (phi - thetas.mean(0)).sign()),
            "first the sign for each task, then the mean over the tasks; not the other way round",
        )
        require(False, "that is not φ − ε · mean of sign(φ − θ)")

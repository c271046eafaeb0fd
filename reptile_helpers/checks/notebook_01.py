"""Checks for the exercises of notebook 01."""

import math

import torch

from reptile_helpers import reptile
from reptile_helpers.checks.exercise import close, exercise, require


def _module_outer_step(phi, theta, epsilon):
    """The module's outer step for a single tensor and a single task."""
    weights = {"": phi.clone()}
    reptile.outer_step(weights, {"": theta[None]}, epsilon)
    return weights[""]


def _random(tensors):
    shape = torch.randint(2, 5, (2,)).tolist()
    return list(torch.randn([tensors, *shape], dtype=torch.float64))


@exercise(reference=_module_outer_step)
def outer_step(f):
    for epsilon in (0.25, 0.1, 1.0):
        phi, theta = _random(2)
        before = phi.clone(), theta.clone()
        result = f(phi, theta, epsilon)
        require(torch.equal(phi, before[0]), "phi itself has changed; return a new tensor instead")
        require(torch.equal(theta, before[1]), "theta itself has changed; return a new tensor instead")
        require(
            isinstance(result, torch.Tensor) and result.shape == phi.shape,
            "the result must be a tensor shaped like phi",
        )
        require(not close(result, phi - epsilon * (theta - phi)), "the sign is wrong: φ moves away from θ")
        require(not close(result, epsilon * (theta - phi)), "that is only the change of φ; add it to φ")
        require(
            epsilon == 1.0 or not close(result, epsilon * phi + (1 - epsilon) * theta),
            f"with epsilon = {epsilon} the result must be near φ, but yours is near θ",
        )
        require(close(f(phi, theta, 0.0), phi), "with epsilon = 0 the result must be φ")
        require(close(f(phi, theta, 1.0), theta), "with epsilon = 1 the result must be θ")
        require(
            close(result, phi + epsilon * (theta - phi)),
            f"with epsilon = {epsilon} the result must lie {100 * epsilon:.0f} % of the way from φ to θ",
        )


@exercise
def outer_gradient(f):
    for tasks in (1, 2, 5):
        phi, *thetas = _random(1 + tasks)
        before = [tensor.clone() for tensor in (phi, *thetas)]
        g = f(phi, thetas)
        require(torch.equal(phi, before[0]), "phi itself has changed; return a new tensor instead")
        require(
            all(torch.equal(a, b) for a, b in zip(thetas, before[1:], strict=True)),
            "the thetas themselves have changed; leave them as they are",
        )
        require(isinstance(g, torch.Tensor) and g.shape == phi.shape, "the gradient must have the shape of phi")
        mean = sum(before[1:]) / tasks
        require(not close(-g, phi - mean), "the sign is wrong: an optimizer moves *against* the gradient")
        require(
            tasks == 1 or not close(g, tasks * (phi - mean)),
            f"that is the sum over the {tasks} tasks; φ moves towards their mean",
        )
        for epsilon in (0.1, 1.0):
            require(
                close(phi - epsilon * g, phi + epsilon * (mean - phi)),
                f"with {tasks} task(s), φ − {epsilon} · g is not φ + {epsilon} · (mean of the thetas − φ)",
            )


@exercise
def best_without_adapting(f):
    for shape in ((7,), (50, 1)):
        x = 10 * torch.rand(shape, dtype=torch.float64) - 5
        result = f(x.clone())
        require(isinstance(result, torch.Tensor) and result.shape == x.shape, "return a tensor with the shape of x")
        amplitude, share = 2.55, 2 / math.pi  # the means over amplitude and phase

        def near(expected, result=result):
            return (result - expected).abs().max() < 0.02  # a mean over many phases is fine

        require(
            not near(torch.zeros_like(x)),
            "over half a turn the waves do not cancel: at x = 0 the sine of every phase is positive",
        )
        for wrong in (torch.sin(x), amplitude * torch.sin(x), amplitude * share * torch.sin(x)):
            require(not near(wrong), "the mean phase is not 0: at x = 0 the mean of the waves is positive")
        require(not near(share * torch.cos(x)), "that is the mean of sin(x + b) alone; the amplitude is missing")
        for wrong in (2.5, 5, 2.45):
            require(not near(wrong * share * torch.cos(x)), "the mean of an amplitude between 0.1 and 5 is 2.55")
        require(
            not near(amplitude * torch.cos(x)),
            "that is the wave with the mean phase, π/2; the mean of the waves is flatter than each of them",
        )
        require(not near(-amplitude * share * torch.cos(x)), "the sign is wrong: at x = 0 the mean is positive")
        require(near(amplitude * share * torch.cos(x)), "that is not the mean of a · sin(x + b) over all a and b")


@exercise
def interval(f):
    for count in (5, 25, 400):
        scores = 3 + 2 * torch.randn(count, dtype=torch.float64)
        result = f(scores)
        require(
            isinstance(result, tuple | list) and len(result) == 2, "return two numbers, the mean and the half-width"
        )
        mean, half = result
        require(close(mean, scores.mean()), "the first number must be the mean of the scores")
        deviation = scores.std().item()
        require(
            not close(half, 1.96 * deviation),
            "that is the spread of single scores; the interval of the *mean* shrinks as there are more tasks",
        )
        require(not close(half, 2 * 1.96 * deviation / count**0.5), "that is the full width; return the half-width")
        require(not close(half, deviation / count**0.5), "that is one standard error; the half-width is 1.96 of them")
        biased = scores.std(correction=0).item()
        require(
            close(half, 1.96 * deviation / count**0.5) or close(half, 1.96 * biased / count**0.5),
            f"for {count} scores the half-width should be 1.96 · standard deviation / √{count}",
        )

"""Checks for the exercises of notebook 01."""

import torch

from reptile_helpers.checks.exercise import close, exercise, require


def _random_weights(tasks):
    shape = torch.randint(2, 5, (2,)).tolist()
    return torch.randn(shape, dtype=torch.float64), list(torch.randn([tasks, *shape], dtype=torch.float64))


@exercise
def outer_step(f):
    for tasks in (1, 2, 5):
        phi, thetas = _random_weights(tasks)
        before = phi.clone()
        result = f(phi, thetas, 0.25)
        require(torch.equal(phi, before), "phi itself has changed; return a new tensor instead")
        require(
            isinstance(result, torch.Tensor) and result.shape == phi.shape, "the new phi must have the shape of phi"
        )
        require(close(f(phi, thetas, 0.0), phi), "with epsilon = 0 phi must stay where it is")
        require(
            close(f(phi, thetas, 1.0), sum(thetas) / tasks),
            f"with epsilon = 1 and {tasks} task(s) phi must land on the mean of the thetas",
        )
        require(
            close(result, 0.75 * phi + 0.25 * sum(thetas) / tasks),
            "with epsilon = 0.25 phi must go a quarter of the way",
        )


@exercise
def outer_gradient(f):
    for tasks in (1, 2, 5):
        phi, thetas = _random_weights(tasks)
        g = f(phi, thetas)
        require(isinstance(g, torch.Tensor) and g.shape == phi.shape, "the gradient must have the shape of phi")
        mean = sum(thetas) / tasks
        require(not close(-g, phi - mean), "the sign is wrong: an optimizer moves *against* the gradient")
        for epsilon in (0.1, 1.0):
            require(
                close(phi - epsilon * g, phi + epsilon * (mean - phi)),
                f"with {tasks} task(s), phi − {epsilon} · g is not phi + {epsilon} · (mean of the thetas − phi)",
            )


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
        require(
            not close(half, 2 * 1.96 * deviation / count**0.5), "that is the whole width; the half-width is asked for"
        )
        require(
            not close(half, deviation / count**0.5), "that is one standard error; a 95 % interval takes 1.96 of them"
        )
        biased = scores.std(correction=0).item()
        require(
            close(half, 1.96 * deviation / count**0.5) or close(half, 1.96 * biased / count**0.5),
            f"for {count} scores the half-width should be 1.96 · standard deviation / √{count}",
        )

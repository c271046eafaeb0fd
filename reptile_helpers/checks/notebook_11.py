"""Checks for the exercises of notebook 11."""

import math

import torch

from reptile_helpers.checks.exercise import close, exercise, require


def _meta_iteration_time(task_time, tasks, processes, cores, exchange):
    return task_time * math.ceil(tasks / processes) * max(1, processes / cores) + exchange


@exercise(reference=_meta_iteration_time)
def meta_iteration_time(f):
    task_time = 40.0
    for tasks, n, cores, exchange in ((5, 1, 2, 0.0), (5, 2, 2, 2.0), (5, 3, 2, 2.0), (5, 4, 2, 6.0), (8, 3, 16, 1.0)):
        case = task_time, tasks, n, cores, exchange
        told = f"with {tasks} tasks, {n} process{'es' * (n > 1)} and {cores} cores"
        result, expected = float(f(*case)), _meta_iteration_time(*case)
        if close(result, expected):
            continue
        busiest, wait = math.ceil(tasks / n), max(1, n / cores)
        require(
            not close(result, task_time * tasks / n * wait + exchange),
            f"{told}, {tasks / n:.2f} tasks each cannot be: one process has {busiest}",
        )
        require(
            not close(result, task_time * busiest * n / cores + exchange),
            f"{told}, no process runs faster because other cores are idle",
        )
        require(not close(result, task_time * busiest + exchange), f"{told}, the processes have to share the cores")
        require(not close(result, task_time * busiest * wait), "the exchange is missing")
        raise AssertionError(f"{told}: {result:.4g} instead of {expected:.4g}")


@exercise
def combine_means(f):
    for counts in ((3, 2), (1, 1, 1), (2, 2, 1), (4,)):
        theta = [torch.randn(count, 3, 2, dtype=torch.float64) for count in counts]
        means = [part.mean(0) for part in theta]
        before = [mean.clone() for mean in means]
        result = f(means, list(counts))
        require(isinstance(result, torch.Tensor), f"return a tensor, not a {type(result).__name__}")
        require(all(map(torch.equal, means, before)), "a tensor that was given has changed")
        if len(set(counts)) > 1:
            require(
                not close(result, sum(means) / len(means)),
                f"the processes had {' and '.join(map(str, counts))} tasks, and each task should count the same",
            )
        require(
            len(counts) == 1 or not close(result, sum(map(torch.mul, means, counts))),
            "that is the sum over all tasks; divide by their number",
        )
        require(close(result, torch.cat(theta).mean(0)), f"that is not the mean over all {sum(counts)} tasks")


def _running_mean(mean, phi, n):
    return mean + (phi - mean) / n


@exercise(reference=_running_mean)
def running_mean(f):
    phis = torch.randn(6, 3, 2, dtype=torch.float64)
    mean = phis[0].clone()
    for n in range(2, 7):
        before, phi = mean.clone(), phis[n - 1].clone()
        result = f(mean, phi, n)
        require(torch.equal(mean, before) and torch.equal(phi, phis[n - 1]), "a tensor that was given has changed")
        require(
            n == 2 or not close(result, (before + phi) / 2),
            "old mean and new tensor should not count the same: n − 1 to 1",
        )
        require(not close(result, before + (phi - before) / (n + 1)), "n counts the new tensor already")
        require(close(result, phis[:n].mean(0)), f"that is not the mean of the {n} tensors")
        mean = result

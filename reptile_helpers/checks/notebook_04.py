"""Checks for the exercises of notebook 04."""

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from reptile_helpers.checks.exercise import close, exercise, require


def _conv_tasks(x, weight, bias, stride, padding):
    return F.conv2d(x, weight.flatten(0, 1), bias.flatten(), stride, padding, groups=len(weight))


class _CountConvolutions(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket is torch.ops.aten.convolution
        return function(*args, **(kwargs or {}))


@exercise(reference=_conv_tasks)
def conv_tasks(f):
    sizes = ((3, 4, 2, 5, 1, 1), (2, 2, 2, 2, 2, 1), (4, 3, 1, 3, 1, 0))
    for tasks, examples, channels, filters, stride, padding in sizes:
        x = torch.randn(examples, tasks * channels, 6, 7).double()
        weight = torch.randn(tasks, filters, channels, 3, 3).double()
        bias = torch.randn(tasks, filters).double()
        with _CountConvolutions() as seen:
            result = f(x, weight, bias, stride, padding)
        settings = {"stride": stride, "padding": padding}
        parts = x.unflatten(1, (tasks, channels)).unbind(1)  # the images of each task

        def stacked(weights, biases, parts=parts, settings=settings):
            """One task after the other, each with its own filters, the results stacked as channels."""
            return torch.cat([F.conv2d(*task, **settings) for task in zip(parts, weights, biases, strict=True)], 1)

        expected = stacked(weight, bias)
        shape = list(expected.shape)
        require(isinstance(result, torch.Tensor), f"return a tensor, not a {type(result).__name__}")
        require(
            list(result.shape) != list(stacked(weight, bias, settings={}).shape) or list(result.shape) == shape,
            f"the result should be {shape}, not {list(result.shape)}: stride and padding must be passed on",
        )
        require(list(result.shape) == shape, f"the result should be {shape}, not {list(result.shape)}")
        require(not close(result, stacked(weight, 0 * bias)), "the bias is missing")
        require(
            not close(result, stacked(weight, bias.T.reshape(bias.shape))),
            "the biases are in the wrong order: all of task 0 come first, then all of task 1",
        )
        require(
            not any(close(result, stacked(weight[:1].expand_as(weight), b)) for b in (bias, bias[:1].expand_as(bias))),
            "every task got the filters of task 0: use the weights of all tasks",
        )
        require(not close(result, stacked(weight.flip(-1, -2), bias)), "the filters are turned upside down")
        swapped = weight.transpose(0, 1).reshape(weight.shape)
        require(
            not close(result, stacked(swapped, bias))
            and not close(result, stacked(swapped, bias.T.reshape(bias.shape))),
            "the filters are in the wrong order: all of task 0 come first, then all of task 1. "
            "flatten(0, 1) keeps that order, a transpose before it does not",
        )
        for t in range(tasks):
            own = slice(t * filters, (t + 1) * filters)
            require(
                close(result[:, own], expected[:, own]),
                f"with {tasks} tasks the shape is right, but the output channels of task {t} differ from those of "
                "F.conv2d on that task alone",
            )
        require(
            seen.count <= 1,
            f"the numbers are right, but {seen.count} convolutions were computed for {tasks} tasks: "
            "use a single F.conv2d, with its argument groups",
        )


def _running_program(mix=None):
    """A stacked program for the exercise: a tanh of one matrix per task. `mix` may spoil it."""

    def program(weights, x):
        output = torch.tanh(x @ weights)
        return mix(output) if mix else output

    return program


def _centred_over_all(output):
    return output - output.mean((0, 1))


def _centred_per_task(output):
    return output - output.mean(1, keepdim=True)


def _reshaped(output):
    return output.transpose(0, 1).reshape(output.shape)


def _last_sees_first(output):
    return torch.cat([output[:-1], output[-1:] + 1e-3 * output[:1]])


def _first_sees_last(output):
    return torch.cat([output[:1] + 1e-3 * output[-1:], output[1:]])


@exercise
def mixes_tasks(f):
    programs = (
        (None, False, "runs each task on its own"),
        (_centred_per_task, False, "subtracts each task's own mean"),
        (_centred_over_all, True, "subtracts the mean over the examples of all tasks"),
        (_reshaped, True, "unstacks with reshape and so swaps tasks and examples"),
        (_last_sees_first, True, "adds a thousandth of the first task's output to the last one's"),
        (_first_sees_last, True, "adds a thousandth of the last task's output to the first one's"),
    )
    for mix, mixes, what in programs:
        weights, x = torch.randn(3, 2, 4).double(), torch.randn(3, 5, 2).double()
        before = x.clone()
        result = f(_running_program(mix), weights, x)
        require(torch.equal(x, before), "x itself has changed: work on x.clone()")
        require(isinstance(result, bool), f"return True or False, not {result!r}")
        if mixes:
            require(result, f"a program that {what} mixes tasks, and your test does not notice")
        else:
            require(not result, f"a program that {what} does not mix tasks, but your test says so")


@exercise
def clip_tasks(f):
    for tasks in (3, 1):
        gradients = {
            "0.weight": torch.randn(tasks, 4, 2).double(), "0.bias": torch.randn(tasks, 4).double(),
        }  # fmt: skip
        scale = torch.tensor([3.0, 0.05, 1.0]).double()[:tasks]
        gradients = {name: scale.view(-1, *[1] * (g.dim() - 1)) * g for name, g in gradients.items()}
        given = {name: g.clone() for name, g in gradients.items()}
        result = f(gradients, 1.0)
        require(all(torch.equal(gradients[name], g) for name, g in given.items()), "the gradients given have changed")
        require(isinstance(result, dict) and set(result) == set(given), "return a dict with the same names")
        for name, g in given.items():
            require(
                result[name].shape == g.shape,
                f"{name} should be {list(g.shape)}, not {list(result[name].shape)}",
            )
        flat, clipped = (torch.cat([g.flatten(1) for g in d.values()], 1) for d in (given, result))
        norms = flat.norm(dim=1)
        factor = (1 / norms).clamp(max=1)
        together = (1 / flat.norm()).clamp(max=1)
        require(
            tasks == 1 or not close(clipped, together * flat),
            "all tasks were clipped by their common norm: a task with a large gradient then slows the others down",
        )
        require(
            tasks == 1 or not close(clipped, flat / norms[:, None]),
            "every gradient got the norm 1: those that are shorter must stay as they are",
        )
        per_tensor = torch.cat(
            [g.flatten(1) / g.flatten(1).norm(dim=1, keepdim=True).clamp(min=1) for g in given.values()], 1
        )
        require(
            tasks == 1 or not close(clipped, per_tensor),
            "each parameter was clipped on its own: the norm of a task is over all its parameters together",
        )
        for t in range(tasks):
            require(
                close(clipped[t], factor[t] * flat[t]),
                f"the gradient of task {t} has the norm {norms[t]:.2f} and should be multiplied by {factor[t]:.2f}; "
                f"its norm is now {clipped[t].norm():.2f}",
            )

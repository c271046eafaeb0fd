"""Checks for the exercises of notebook 04."""

import torch
from torch.nn import functional as F

from reptile_helpers.checks.exercise import close, exercise, require


@exercise
def linear_tasks(f):
    for tasks, examples, inputs, outputs in ((3, 4, 2, 5), (2, 2, 2, 2), (1, 6, 3, 1)):
        x, weight = torch.randn(tasks, examples, inputs), torch.randn(tasks, outputs, inputs)
        bias = torch.randn(tasks, outputs)
        result = f(x, weight, bias)
        shape = [tasks, examples, outputs]
        require(list(result.shape) == shape, f"the result should be {shape}, not {list(result.shape)}")
        expected = torch.stack([F.linear(x[t], weight[t], bias[t]) for t in range(tasks)])
        without_bias = expected - bias[:, None]
        require(not torch.allclose(result, without_bias, atol=1e-5), "the bias is missing")
        require(
            torch.allclose(result, expected, atol=1e-5), "some task did not get its own weight: compare with F.linear"
        )


@exercise
def conv_tasks(f):
    for tasks, examples, channels, filters in ((3, 4, 2, 5), (2, 2, 2, 2), (1, 6, 3, 1)):
        x, weight = torch.randn(tasks, examples, channels, 6, 7), torch.randn(tasks, filters, channels, 3, 3)
        bias = torch.randn(tasks, filters)
        result = f(x, weight, bias)
        shape = [tasks, examples, filters, 6, 7]
        require(list(result.shape) == shape, f"the result should be {shape}, not {list(result.shape)}")
        expected = torch.stack([F.conv2d(x[t], weight[t], bias[t], padding=1) for t in range(tasks)])
        require(not torch.allclose(result, expected - bias[:, None, :, None, None], atol=1e-4), "the bias is missing")
        require(
            torch.allclose(result, expected, atol=1e-4),
            f"with {tasks} tasks of {examples} examples the shape is right, but not the numbers: "
            "are tasks and examples swapped with transpose, not reshape?",
        )


@exercise
def loss_tasks(f):
    for tasks, examples, ways in ((3, 4, 5), (1, 5, 2)):
        logits = torch.randn(tasks, examples, ways, dtype=torch.float64, requires_grad=True)
        y = torch.randint(ways, (tasks, examples))
        loss = f(logits, y)
        require(
            isinstance(loss, torch.Tensor) and loss.dim() == 0 and loss.requires_grad,
            "return one number that backward() can start from: a tensor without dimensions",
        )
        (g,) = torch.autograd.grad(loss, logits)
        for t in range(tasks):
            alone = logits[t].detach().requires_grad_()
            (own,) = torch.autograd.grad(F.cross_entropy(alone, y[t]), alone)
            require(
                tasks == 1 or not close(tasks * g[t], own),
                f"every gradient is {tasks} times too small: that is the mean over the {tasks} tasks, not their sum",
            )
            require(
                not close(g[t], examples * own),
                f"every gradient is {examples} times too large: a task's loss is the mean over its examples",
            )
            require(close(g[t], own), f"the gradient of task {t} is not that of its own mean cross-entropy")

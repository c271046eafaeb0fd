"""Many tasks as one tensor program: the same network with different weights for each task, and its inner loops at once.

Images of all tasks lie side by side as channels, [examples, tasks · channels, height, width]. One grouped convolution
then computes the convolutions of all tasks, and one batch norm normalizes each task's channels on their own.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reptile_helpers.learner import (
    InnerLoop,
    Learner,
    Weights,
    call_with,
    finish_inner_loop,
    start_inner_loop,
    task_loss,
)


def forward_tasks(model: nn.Module, weights: Weights, x: Tensor, statistics_of: int | None = None) -> Tensor:
    """Run one network with different weights on each task: exactly what `model` would do, once per task.

    weights: name → tensor [tasks, *parameter shape]; a parameter that is not listed keeps the model's value.
    x: [tasks, examples, *input shape]. Returns [tasks, examples, outputs].
    statistics_of: batch norm uses the statistics of the first `statistics_of` examples only (default: of all).

    An nn.Sequential of the common layers runs as one program. Any other network runs once per task, which is slower
    and gives the same result; only `statistics_of` is impossible there, and raises ValueError.
    """
    if unknown := weights.keys() - {name for name, _ in model.named_parameters()}:
        raise ValueError(f"weights has {min(unknown)!r}, but the network has no parameter of that name")
    obstacle = find_obstacle(model, weights, x)
    if obstacle is None:
        return forward_stacked(model, weights, x, statistics_of)
    if statistics_of is not None:
        raise ValueError(
            f"statistics_of (mode 'support only') needs a network that can be stacked: {obstacle}"
        )
    of_task = ({name: w[task] for name, w in weights.items()} for task in range(len(x)))
    return torch.stack([call_with(model, w, x_task) for w, x_task in zip(of_task, x, strict=True)])


def find_obstacle(model: nn.Module, weights: Weights, x: Tensor) -> str | None:
    """Why `forward_tasks` has to run this network once per task; None if it can run as one program."""
    if type(model) is not nn.Sequential or _is_changed(model):
        return f"the network is {type(model).__name__} with a forward of its own, not a plain nn.Sequential"
    if x.dim() not in (3, 5):
        return f"x is {list(x.shape)}, neither vectors nor images for each task"
    images, seen = x.dim() == 5, set()
    for name, layer in list(model.named_modules(remove_duplicate=False))[1:]:
        supported = _supports(layer, images) and not _is_changed(layer)
        if not supported:
            return f"layer {name}, {layer}, is not supported on {'images' if images else 'vectors'}"
        images = images and not isinstance(layer, nn.Flatten)
        for parameter_name, p in layer.named_parameters():
            if id(p) in seen or p.requires_grad and f"{name}.{parameter_name}" not in weights:
                return f"layer {name} shares its {parameter_name} with another layer, or has no weights of its own"
            seen.add(id(p))
    return "the network has no nn.Flatten, so it does not end in vectors" if images else None


def _supports(layer: nn.Module, images: bool) -> bool:
    """Does `forward_stacked` compute exactly what this layer computes? Subclasses may do anything, hence `type`."""
    kind = type(layer)
    if kind in (nn.ReLU, nn.Tanh):
        return True
    if kind is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if kind is nn.Linear:
        return not images
    if kind is nn.Conv2d:
        return images and layer.padding_mode == "zeros"
    if kind is nn.MaxPool2d:
        return images and not layer.return_indices
    # Batch norm that updates running statistics changes the model, so it must run one task at a time.
    return kind is nn.BatchNorm2d and images and (layer.running_mean is None or not layer.training)


def _is_changed(module: nn.Module) -> bool:
    """Does calling the module do more than the `forward` of its class?"""
    return bool("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)


def forward_stacked(
    model: nn.Module, weights: Weights, x: Tensor, statistics_of: int | None = None, convolve: Callable = F.conv2d
) -> Tensor:
    """`forward_tasks` for a network without an obstacle: tensor operations only, which a compiler understands.

    convolve: a function that computes what F.conv2d computes.
    """
    tasks, examples = x.shape[:2]

    def of_tasks(name, p):  # without types: PyTorch 2.6 cannot compile `Tensor | None`
        return None if p is None else weights[name] if name in weights else p.expand(tasks, *p.shape)

    images = x.dim() == 5
    if images:
        # Which memory order is faster was measured: channels last on a CPU, channels first on a GPU.
        order = torch.contiguous_format if x.is_cuda else torch.channels_last
        x = x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=order)
    for name, layer in list(model.named_modules(remove_duplicate=False))[1:]:
        kind = type(layer)
        if kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear):
            weight, bias = of_tasks(f"{name}.weight", layer.weight), of_tasks(f"{name}.bias", layer.bias)
        if kind is nn.Conv2d:
            bias = None if bias is None else bias.flatten()
            groups = tasks * layer.groups
            x = convolve(x, weight.flatten(0, 1), bias, layer.stride, layer.padding, layer.dilation, groups)
        elif kind is nn.BatchNorm2d:
            weight, bias = (None if p is None else p.flatten() for p in (weight, bias))
            mean, variance = _find_statistics(layer, x, tasks, statistics_of)
            x = F.batch_norm(x, mean, variance, weight, bias, training=mean is None, eps=layer.eps)
        elif kind is nn.Linear:
            weight = weight.transpose(1, 2)
            x = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight)
        elif kind is nn.Flatten and images:
            x, images = x.reshape(examples, tasks, -1).transpose(0, 1), False
        elif kind is nn.ReLU:
            x = torch.relu(x)  # not the layer itself, which can work in place, on the caller's x
        elif kind is nn.Tanh:
            x = torch.tanh(x)
        elif kind is nn.MaxPool2d:
            x = layer(x)
    return x


def _find_statistics(layer, x, tasks, statistics_of):
    """Mean and variance [tasks · channels] for batch norm; None, None for those of the batch at hand."""
    if layer.running_mean is not None:
        return layer.running_mean.repeat(tasks), layer.running_var.repeat(tasks)
    if statistics_of is None:
        return None, None
    variance, mean = torch.var_mean(x[:statistics_of], (0, 2, 3), correction=0)
    return mean, variance


def loss_of_tasks(model: nn.Module, theta: Weights, x: Tensor, y: Tensor, forward: Callable = forward_tasks) -> Tensor:
    """The sum of the tasks' losses, so that the gradient of each task's weights is that of its own loss. A number."""
    output = forward(model, theta, x)
    return len(x) * task_loss(output.flatten(0, 1), y.flatten(0, 1))  # undo the mean over tasks


@torch.inference_mode(False)
def adapt_together(
    model: nn.Module, learner: Learner, x: Tensor, y: Tensor, batches: Tensor, inner: InnerLoop,
    loss_of_tasks: Callable = loss_of_tasks,
) -> Learner:  # fmt: skip
    """The same steps as `adapt_one_by_one`, with the same result, for all tasks at once."""
    if not len(x) == len(y) == len(batches):
        raise ValueError(f"x has {len(x)} tasks, y {len(y)} and batches {len(batches)}; they must have the same number")
    theta, optimizer = start_inner_loop(learner, inner, len(x))
    rows = torch.arange(len(x), device=x.device)[:, None]
    for batch in batches.unbind(1):
        loss = loss_of_tasks(model, theta, x[rows, batch], y[rows, batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return finish_inner_loop(learner, inner, theta, optimizer)

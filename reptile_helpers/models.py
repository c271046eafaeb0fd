"""Networks without running statistics, and how to run many copies of one at once."""

import torch
from torch import nn
from torch.nn import functional as F

from reptile_helpers.tasks import at_least_one


def sine_mlp():
    """The paper's sine network, 1-64-64-1 with tanh: float [examples, 1] to float [examples, 1]."""
    return nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))


def omniglot_cnn(ways):
    """The paper's Omniglot network: float [examples, 1, 28, 28] to logits [examples, ways]; 113,221 numbers for 5 ways.

    Four times 3×3 convolution with 64 filters and stride 2, batch norm, ReLU; then one linear layer. Batch norm always
    uses the statistics of the batch at hand: there are no running ones, and `train()` and `eval()` make no difference.
    As in the authors' code, the initial weights are Glorot uniform, biases zero, batch norm's ε is 1e-3. Where an image
    has an even size, padding reaches its left and upper edge only; in TensorFlow ("same") the right and lower one. That
    is the same network for images turned by 180°, with its filters turned, too.
    """
    at_least_one(ways=ways)
    blocks = []
    for channels in (1, 64, 64, 64):
        blocks += [
            nn.Conv2d(channels, 64, kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(64, eps=1e-3, track_running_stats=False),
            nn.ReLU(),
        ]
    return glorot(nn.Sequential(*blocks, nn.Flatten(), nn.Linear(256, ways)))


def article_cnn(ways):
    """The network of the article that this project makes real: [examples, 1, 28, 28] to logits [examples, ways].

    Twice 3×3 convolution with 64 filters, ReLU, 2×2 max-pooling; then linear layers of 256 and `ways` units.
    Two poolings leave 7×7 of the 28×28 pixels, hence 64·7·7 features (the article says 64·5·5). No batch norm.
    """
    at_least_one(ways=ways)
    return nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, ways),
    )  # fmt: skip


def glorot(model):
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def forward_tasks(model, weights, x, statistics_of=None):
    """Run one network with different weights on each task: what `model` would do, once per task, as one program.

    model: an nn.Sequential of the layers used in this file. weights: name → tensor [tasks, *parameter shape].
    x: [tasks, examples, *input shape]. Returns [tasks, examples, outputs].
    statistics_of: batch norm takes the statistics of only so many of the first examples (default: of all).

    Images of all tasks lie side by side as channels, [examples, tasks · channels, height, width]: then one grouped
    convolution does the convolutions of all tasks, and one batch norm normalizes each task's channels on their own.
    Under torch.compile the convolutions are written as batched matrix products, see `convolve_as_products`.
    """
    convolve = convolve_as_products if torch.compiler.is_compiling() else F.conv2d
    tasks, examples = x.shape[:2]
    if x.dim() == 5:
        # Which order in memory is faster was measured: channels last on a CPU, channels first on a GPU.
        order = torch.contiguous_format if x.is_cuda else torch.channels_last
        x = x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=order)
    for name, layer in model.named_children():
        weight, bias = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
        if isinstance(layer, nn.Conv2d):
            x = convolve(x, weight.flatten(0, 1), bias.flatten(), layer.stride, layer.padding, groups=tasks)
        elif isinstance(layer, nn.BatchNorm2d):
            variance, mean = (
                torch.var_mean(x[:statistics_of], (0, 2, 3), correction=0) if statistics_of else (None, None)
            )
            x = F.batch_norm(x, mean, variance, weight.flatten(), bias.flatten(), mean is None, eps=layer.eps)
        elif isinstance(layer, nn.Flatten):
            x = x.reshape(examples, tasks, -1).transpose(0, 1)
        elif isinstance(layer, nn.Linear):
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
        elif isinstance(layer, (nn.ReLU, nn.Tanh, nn.MaxPool2d)):  # the compiler of PyTorch 2.6 knows no |
            x = layer(x)
        else:
            raise TypeError(f"forward_tasks does not know the layer {layer}; use those of reptile_helpers.models")
    return x


def convolve_as_products(x, weight, bias, stride, padding, groups):
    """What F.conv2d does with groups, as one matrix product per group.

    cuDNN's gradient of a grouped convolution is slow on few examples: nearly half of all the time of a GPU's kernels.
    The copies that are needed here cost little where a compiler fuses them with batch norm and ReLU; elsewhere, much.
    """
    size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[2:], padding, weight.shape[2:], stride, strict=True)]
    patches = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)  # [examples, groups · numbers, positions]
    patches = patches.unflatten(1, (groups, -1)).permute(1, 2, 0, 3).flatten(2)
    filters = weight.flatten(1).unflatten(0, (groups, -1))
    y = torch.baddbmm(bias.view(groups, -1, 1), filters, patches)  # [groups, channels, examples · positions]
    return y.unflatten(2, (len(x), *size)).permute(2, 0, 1, 3, 4).flatten(1, 2)

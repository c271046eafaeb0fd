"""Making meta-training fast on a GPU: compile the inner loop, record a whole meta-iteration, and replay it.

A meta-iteration is about a thousand small operations, and Python needs longer to launch one than a GPU needs to compute
it. A CUDA graph launches them all at once; a compiler fuses neighbours into one.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reptile_helpers.learner import InnerLoop, Learner
from reptile_helpers.reptile import meta_train
from reptile_helpers.stacked import adapt_together, find_obstacle, forward_stacked, loss_of_tasks


def meta_train_on_gpu(
    model: nn.Module, learner: Learner, tasks, inner: InnerLoop, *, generator: torch.Generator, **options
) -> Learner:
    """`meta_train` with every meta-iteration compiled and replayed as a CUDA graph: the same steps, many times faster.

    Takes the arguments of `meta_train`, but no `adapt`, `outer_optimizer` and `speed_up` (ValueError); model, learner,
    tasks and generator must be on a GPU. `tasks.sample` must do nothing but tensor operations there, the same ones at
    every call. The `adam_steps` that a callback sees is a tensor. Products of float32 matrices use TF32, as PyTorch's
    convolutions on a GPU do anyway. The first meta-iteration takes about ten seconds longer, for compiling.
    """
    if impossible := sorted(options.keys() & {"adapt", "outer_optimizer", "speed_up"}):
        raise ValueError(f"meta_train_on_gpu does not accept {' and '.join(impossible)}; use meta_train for that")
    if generator.device.type != "cuda":
        raise ValueError(f"the generator is on {generator.device}; it must be on a GPU, like model, learner and tasks")
    on_gpu = replace(learner, adam_steps=torch.tensor(float(learner.adam_steps), device=generator.device))

    def speed_up(learn_new_tasks, move_initialization):
        return record(learn_new_tasks, generator), record(compile_or_keep(move_initialization), generator)

    with torch.cuda.device(generator.device), use_tf32():  # a graph is recorded on the current device
        trained = meta_train(
            model, on_gpu, tasks, inner, generator=generator, adapt=make_compiled_adapt(), speed_up=speed_up, **options
        )
    return replace(trained, adam_steps=int(trained.adam_steps))


def make_compiled_adapt() -> Callable:
    """`adapt_together` with the forward pass and the loss compiled, and convolutions as matrix products.

    Where compiling is impossible, see `compile_or_keep`, it is `adapt_together`. A network that runs once per task, see
    `forward_tasks`, is not compiled.
    """
    forward = partial(forward_stacked, convolve=convolve_as_products)
    compiled_loss = torch.compile(partial(loss_of_tasks, forward=forward), dynamic=False)

    def loss(model, theta, x, y):  # what is checked here, not every version of PyTorch can compile
        known = theta.keys() <= dict(model.named_parameters()).keys()
        stacked = known and find_obstacle(model, theta, x) is None
        return (compiled_loss if stacked else loss_of_tasks)(model, theta, x, y)

    return use_if_possible(partial(adapt_together, loss_of_tasks=loss), adapt_together)


def compile_or_keep(function: Callable) -> Callable:
    """`function` after torch.compile, which fuses its small operations; where that is impossible, `function` itself.

    On a GPU, compiling needs Triton (part of PyTorch for Linux), a GPU of 2017 or later, and a C compiler. If one is
    missing, a warning says so. TORCH_COMPILE_DISABLE=1 in the environment switches compiling off.
    """
    return use_if_possible(torch.compile(function, dynamic=False), function)


def use_if_possible(compiled: Callable, plain: Callable) -> Callable:
    """A function that calls `compiled`, or after a warning `plain` if compiling fails, and from then on only that.

    Both must compute the same, and have changed nothing when compiling fails. It can fail at any time during the first
    call: a gradient is compiled only when it is computed, and then with any kind of error.
    """
    too_old = torch.cuda.is_available() and torch.cuda.get_device_capability() < (7, 0)
    if too_old or not find_spec("triton"):
        missing = "it needs a GPU of 2017 or later" if too_old else "Triton is not installed"
        warnings.warn(f"torch.compile is not used ({missing}); meta-training is slower without it.", stacklevel=3)
        return plain
    failed = False

    def call(*arguments):
        nonlocal failed
        if failed:
            return plain(*arguments)
        try:
            return compiled(*arguments)
        except Exception as error:
            result = plain(*arguments)  # if the arguments are to blame, this raises the error instead
            cause = getattr(error, "inner_exception", error)
            reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
            warnings.warn(f"torch.compile failed ({reason}); going on without it, more slowly.", stacklevel=2)
            failed = True
            return result

    return call


def record(function: Callable, generator: torch.Generator) -> Callable:
    """`function`, recorded as a CUDA graph at its second call and replayed from then on.

    `function` may do nothing but tensor operations, the same ones at every call. Numbers among its arguments reach
    it as tensors, which are filled with the new values before each replay; all other arguments must be the same objects
    each time. What it returns is also the same object each time, with new contents. The first call is an ordinary one:
    libraries initialize and code is compiled in it, which cannot be recorded.
    """
    graph, calls, tensors, result = torch.cuda.CUDAGraph(), 0, {}, None
    graph.register_generator_state(generator)

    def call(*arguments):
        nonlocal calls, result
        calls += 1
        for i, value in enumerate(arguments):
            if isinstance(value, (int, float)):
                tensors.setdefault(i, torch.zeros((), device=generator.device)).fill_(value)
        arguments = [tensors.get(i, value) for i, value in enumerate(arguments)]
        if calls == 1:
            return function(*arguments)
        if calls == 2:
            with torch.cuda.graph(graph):
                result = function(*arguments)
        graph.replay()
        return result

    return call


def convolve_as_products(x, weight, bias, stride, padding, dilation, groups) -> Tensor:
    """What F.conv2d computes, as one matrix product per group.

    cuDNN's gradient of a grouped convolution is slow on few examples: it took nearly half of the kernels' time. The
    copies that this form needs are cheap where a compiler fuses them with batch norm and ReLU, and expensive elsewhere.
    """
    if isinstance(padding, str):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    options = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in options]
    patches = F.unfold(x, weight.shape[2:], dilation, padding, stride)  # [examples, groups · values, positions]
    patches = patches.unflatten(1, (groups, -1)).permute(1, 2, 0, 3).flatten(2)
    filters = weight.flatten(1).unflatten(0, (groups, -1))
    y = filters @ patches if bias is None else torch.baddbmm(bias.view(groups, -1, 1), filters, patches)
    return y.unflatten(2, (len(x), *size)).permute(2, 0, 1, 3, 4).flatten(1, 2)  # from [groups, channels, positions]


@contextmanager
def use_tf32() -> Iterator[None]:
    """For a while, compute products of float32 matrices in TF32, as PyTorch's convolutions on a GPU do anyway."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

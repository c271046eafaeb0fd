"""A meta-batch shared between processes, on one machine or several, with torch.distributed."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from reptile_helpers.learner import InnerLoop, Learner, has_diverged
from reptile_helpers.stacked import adapt_together


@contextmanager
def join_processes(device: str) -> Iterator[str]:
    """Join the other processes if torchrun has started this one, else do nothing. Yields this process's device."""
    if "LOCAL_RANK" not in os.environ:  # torchrun's
        yield device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        # Gloo releases the last exchanged tensors in a thread of its own, for which it needs Python's lock. PyTorch 2.6
        # would wait for that thread while holding the lock, forever. A sleeping thread does not hold it.
        time.sleep(0.2)
        distributed.destroy_process_group()


def get_rank_and_world_size() -> tuple[int, int]:
    """Which process this is, counted from 0, and how many there are: (0, 1) for a single process."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def broadcast_from_first(value: Any) -> Any:
    """The first process's value, in every process: the others may run on machines without its files."""
    values = [value]
    if get_rank_and_world_size()[1] > 1:
        distributed.broadcast_object_list(values)
    return values[0]


@contextmanager
def fail_together() -> Iterator[None]:
    """Where every process runs this block: an OSError or ValueError of one is raised in all, after the block.

    Otherwise the others would wait for that process, or see no more than that it is gone.
    """
    problem = None
    try:
        yield
    except (OSError, ValueError) as error:
        problem = error
    problems = [problem]
    if (world_size := get_rank_and_world_size()[1]) > 1:
        problems = [None] * world_size
        distributed.all_gather_object(problems, problem)
    for error in (problem, *problems):  # its own first, with its traceback
        if error:
            raise error


def adapt_shared(
    model: nn.Module, learner: Learner, x: Tensor, y: Tensor, batches: Tensor, inner: InnerLoop
) -> Learner:
    """`adapt_together` with the work shared: each process adapts to some of the tasks, and all get the overall mean.

    Every process must call this with the same learner and the same tasks. They need not send each other the tasks: with
    the same seed, on devices of the same kind, each draws the same ones. Process r of n adapts to tasks r, r + n,
    r + 2n …; there must be at least one for each. Once per meta-batch, an all-reduce adds up the weights and second
    moments: two numbers per parameter.

    Returns a Learner with a single "task" in front, [1, *parameter shape]: the mean over all tasks. If an inner loop
    diverges in any process, it contains NaN in all of them, so that all stop at the same meta-iteration. Raises
    ConnectionError if another process has died.
    """
    rank, ranks = get_rank_and_world_size()
    mine = slice(rank, None, ranks)
    adapted = adapt_together(model, learner, x[mine], y[mine], batches[mine], inner)
    parts = [*adapted.weights.values(), *adapted.second_moment.values()]
    total = torch.cat([part.sum(0).flatten() for part in parts])
    if has_diverged(learner.weights, adapted.weights).any():
        total.fill_(torch.nan)
    try:
        distributed.all_reduce(total)
    except RuntimeError as error:
        raise ConnectionError("another process has died.") from error
    pieces = (total / len(x)).split([part[0].numel() for part in parts])
    means = [piece.view(1, *part.shape[1:]) for piece, part in zip(pieces, parts, strict=True)]
    names = list(adapted.weights)
    weights, moments = (dict(zip(names, half, strict=True)) for half in (means[: len(names)], means[len(names) :]))
    return Learner(weights, moments, adapted.adam_steps)

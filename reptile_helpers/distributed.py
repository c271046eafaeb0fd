"""A meta-batch shared between processes, on one machine or several, with torch.distributed."""

import os
import time
from contextlib import contextmanager

import torch
from torch import distributed

from reptile_helpers.reptile import Learner, adapt_together, diverged


@contextmanager
def processes(device):
    """Join the other processes if torchrun has started this one, else do nothing. Gives the device of this process."""
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
        # Gloo lets go of the last exchanged tensors in a thread of its own, and needs Python's lock for it. PyTorch 2.6
        # then waits for that thread with the lock in its hand, for ever. Whoever sleeps does not hold the lock.
        time.sleep(0.2)
        distributed.destroy_process_group()


def rank_and_ranks():
    """Which of how many processes this is, counted from 0: (0, 1) if it is alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def from_the_first(value):
    """What the first process gives here, in every process: the others may be on machines without its files."""
    values = [value]
    if rank_and_ranks()[1] > 1:
        distributed.broadcast_object_list(values)
    return values[0]


def adapt_shared(model, learner, x, y, batches, inner):
    """What `adapt_together` does, with the work shared: each process adapts to its tasks, and the means are exchanged.

    Every process must come here with the same learner and the same tasks. The same seed does that without a message, on
    devices of the same kind. Process r of n takes the tasks r, r + n, r + 2n …; there must be one for each. Once per
    meta-batch the sums over tasks, of weights and second moments, are added up over the processes (all-reduce): two
    numbers per parameter.

    Returns a Learner with a single "task" in front, [1, *parameter shape]: the mean over all tasks. If an inner loop
    diverges in any process, it holds no numbers in all of them, so that all stop at the same meta-iteration.
    """
    rank, ranks = rank_and_ranks()
    mine = slice(rank, None, ranks)
    adapted = adapt_together(model, learner, x[mine], y[mine], batches[mine], inner)
    parts = [*adapted.weights.values(), *adapted.second_moment.values()]
    total = torch.cat([part.sum(0).flatten() for part in parts])
    if diverged(learner.weights, adapted.weights).any():
        total.fill_(torch.nan)
    try:
        distributed.all_reduce(total)
    except RuntimeError as error:
        raise ConnectionError("another process is gone.") from error
    pieces = (total / len(x)).split([part[0].numel() for part in parts])
    means = [piece.view(1, *part.shape[1:]) for piece, part in zip(pieces, parts, strict=True)]
    names = list(adapted.weights)
    weights, moments = (dict(zip(names, half, strict=True)) for half in (means[: len(names)], means[len(names) :]))
    return Learner(weights, moments, adapted.adam_steps)

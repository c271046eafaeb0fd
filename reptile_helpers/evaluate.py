"""How good is an initialization? Adapt to new tasks, predict their queries, and state how certain the result is."""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from reptile_helpers.arguments import require_whole
from reptile_helpers.learner import (
    InnerLoop,
    Learner,
    Weights,
    advise_on_divergence,
    has_diverged,
    keep_parameters,
    minibatches,
)
from reptile_helpers.stacked import adapt_together, forward_tasks
from reptile_helpers.tasks import TaskBatch

MODES = ("transductive", "support + one query", "support only")
TASKS_AT_ONCE = 8  # bounds the memory: every task has weights of its own


@torch.no_grad()
def predict(
    model: nn.Module, weights: Weights, support_x: Tensor, query_x: Tensor, mode: str = "transductive"
) -> Tensor:
    """Outputs for the queries, [tasks, queries, outputs], with the weights of each task (name → [tasks, *shape]).

    With batch norm an output depends on what else is in the batch:
    "transductive": all queries of a task in one batch, so that each can influence the prediction for the others;
    "support + one query": the support set and a single query in each batch, so that none can;
    "support only": batch norm uses the statistics of the support set alone. (ValueError for a network that cannot be
    stacked, see `forward_tasks`.)
    """
    _check_mode(mode)
    if mode == "transductive":
        return forward_tasks(model, weights, query_x)
    if mode == "support only":
        examples = support_x.shape[1]
        both = torch.cat([support_x, query_x], dim=1)
        return forward_tasks(model, weights, both, statistics_of=examples)[:, examples:]
    queries = query_x.split(1, dim=1)
    return torch.cat(
        [forward_tasks(model, weights, torch.cat([support_x, query], dim=1))[:, -1:] for query in queries], dim=1
    )


@keep_parameters
def evaluate_modes(
    model: nn.Module, learner: Learner, batch: TaskBatch, inner: InnerLoop, generator: torch.Generator,
    modes: Iterable[str] = MODES, progress: bool = True,
) -> dict[str, Tensor]:  # fmt: skip
    """Mode → one score per task of a TaskBatch, float [tasks]: adapt on the support set, predict the queries.

    The score is the share of correct labels, or for real targets the mean squared error. A task's score has the same
    bits however many tasks come after it in the batch. progress: show a bar if there is much to do.

    Raises FloatingPointError if an inner loop diverges, ValueError for an empty batch.
    """
    tasks, examples = batch.support_x.shape[:2]
    require_whole(tasks=tasks)
    order = minibatches(tasks, examples, inner, generator)
    scores = {mode: [] for mode in modes}
    for mode in scores:
        _check_mode(mode)
    at_once = 25 * TASKS_AT_ONCE if order.is_cuda else TASKS_AT_ONCE  # eight would not keep a GPU busy
    parts = range(0, tasks, at_once)
    for start in tqdm(parts, desc="evaluation", leave=False, disable=not progress or len(parts) < 4):
        # The last part is padded with tasks of the first: rounding differs with the number of tasks at once.
        part = torch.arange(start, start + at_once, device=order.device) % tasks
        support_x, support_y, query_x, query_y = TaskBatch(*(tensor[part] for tensor in batch))
        weights = adapt_together(model, learner, support_x, support_y, order[part], inner).weights
        if has_diverged(learner.weights, weights).any():
            raise FloatingPointError(
                f"an inner loop diverged among tasks {start} to {min(start + at_once, tasks) - 1}, so a mean over "
                f"tasks would be meaningless. {advise_on_divergence(inner)}"
            )
        for mode in scores:
            output = predict(model, weights, support_x, query_x, mode)
            if query_y.is_floating_point():
                scores[mode].append(squared_error(output, query_y))
            else:
                scores[mode].append(accuracy(output.argmax(-1), query_y))
    return {mode: torch.cat(parts)[:tasks] for mode, parts in scores.items()}


def evaluate(
    model: nn.Module, learner: Learner, batch: TaskBatch, inner: InnerLoop, generator: torch.Generator,
    mode: str = "transductive", progress: bool = True,
) -> Tensor:  # fmt: skip
    """One score per task, float [tasks], in one mode; see `evaluate_modes`."""
    return evaluate_modes(model, learner, batch, inner, generator, [mode], progress)[mode]


def adaptation_path(
    model: nn.Module, learner: Learner, support_x: Tensor, support_y: Tensor, inner: InnerLoop,
    generator: torch.Generator,
) -> list[Learner]:  # fmt: skip
    """The Learners of one task before the first inner step and after each: a list of inner.steps + 1.

    support_x: [examples, *input shape]; support_y: [examples] labels or [examples, …] targets. Each step continues with
    the moments of the step before; without inner.carry_moments the first one starts from zeros.
    """
    if not inner.carry_moments:
        learner = Learner(learner.weights, {name: torch.zeros_like(v) for name, v in learner.second_moment.items()})
    path, one_step = [learner], replace(inner, steps=1, carry_moments=True)
    for batch in minibatches(1, len(support_x), inner, generator).unbind(1):
        adapted = adapt_together(model, path[-1], support_x[None], support_y[None], batch[:, None], one_step)
        weights, moments = ({name: t[0] for name, t in d.items()} for d in (adapted.weights, adapted.second_moment))
        path.append(Learner(weights, moments, adapted.adam_steps))
    return path


def with_ways(learner: Learner, ways: int) -> Learner:
    """The Learner with only the first `ways` outputs of its last layer, for a task with fewer classes.

    Raises ValueError if the last layer does not have that many outputs, for fewer than two, and if the last parameters
    are not a weight and a bias with one row per output.
    """
    layer = list(learner.weights)[-1].rpartition(".")[0]
    last = [name for name in learner.weights if name.rpartition(".")[0] == layer]
    rows = {learner.weights[name].shape[:1] for name in last}
    if len(rows) > 1 or () in rows:
        raise ValueError(f"the last layer, with {' and '.join(last)}, does not have one row per output")
    ((outputs,),) = rows
    require_whole(minimum=2, ways=ways)
    if ways > outputs:
        raise ValueError(f"ways is {ways!r}; it must be 2 to {outputs}, as the last layer has {outputs} outputs")
    weights, moments = (
        {name: t[:ways] if name in last else t for name, t in d.items()}
        for d in (learner.weights, learner.second_moment)
    )
    return replace(learner, weights=weights, second_moment=moments)


def nearest_neighbour(batch: TaskBatch) -> Tensor:
    """Labels for the queries, int64 [tasks, queries]: the label of the support example with the closest pixels.

    A baseline that learns nothing; the distance is Euclidean. batch: a TaskBatch with class labels.
    """
    if batch.support_y.is_floating_point():
        raise ValueError(f"support_y is {batch.support_y.dtype}; it must be class labels, int64")
    distances = torch.cdist(batch.query_x.flatten(2), batch.support_x.flatten(2))
    return batch.support_y.gather(1, distances.argmin(-1))


def accuracy(labels: Tensor, query_y: Tensor) -> Tensor:
    """The share of correct labels in each task, float [tasks]; both arguments are int64 [tasks, queries]."""
    _check_same_shape(labels, query_y)
    return (labels == query_y).float().mean(1)


def squared_error(output: Tensor, query_y: Tensor) -> Tensor:
    """The mean squared error of each task, float [tasks]; both arguments are float [tasks, queries, 1]."""
    _check_same_shape(output, query_y)
    return (output - query_y).square().flatten(1).mean(1)


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(map(repr, MODES))}")


def _check_same_shape(predicted: Tensor, query_y: Tensor) -> None:
    shapes = f"predicted is {list(predicted.shape)}, query_y {list(query_y.shape)}"
    if predicted.shape != query_y.shape:  # PyTorch would broadcast
        raise ValueError(f"{shapes}; they must have the same shape")
    if predicted.numel() == 0:
        raise ValueError(f"{shapes}; there must be at least one query")


def mean_and_interval(scores: Tensor) -> tuple[float, float]:
    """The mean over tasks, and half the width of its 95 % interval, 1.96 standard errors: two floats.

    scores: float [tasks], one per independent task, at least two, all finite; otherwise raises ValueError.
    """
    if scores.dim() != 1 or len(scores) < 2:
        raise ValueError(f"scores is {list(scores.shape)}; it must be [tasks] with at least 2 tasks")
    if not scores.isfinite().all():
        raise ValueError(f"{(~scores.isfinite()).sum()} of {len(scores)} scores are NaN or infinite")
    return scores.mean().item(), 1.96 * scores.std().item() / math.sqrt(len(scores))

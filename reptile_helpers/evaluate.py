"""How good is an initialization? Adapt to fresh tasks, predict their queries, and say how sure the result is."""

import math
from dataclasses import replace

import torch
from tqdm.auto import tqdm

from reptile_helpers.models import forward_tasks
from reptile_helpers.reptile import Learner, adapt_together, diverged, minibatches
from reptile_helpers.tasks import TaskBatch, at_least_one

MODES = ("transductive", "support + one query", "support only")
TASKS_AT_ONCE = 8  # bounds the memory: every task has weights of its own


@torch.no_grad()
def predict(model, weights, support_x, query_x, mode="transductive"):
    """Outputs for the queries, [tasks, queries, outputs], with the weights of each task (name → [tasks, *shape]).

    With batch norm an output depends on what else is in the batch:
    "transductive": all queries of a task in one batch, so that they help each other;
    "support + one query": the support set and a single query in each batch, so that they cannot;
    "support only": batch norm has the statistics of the support set, and no query changes them.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(map(repr, MODES))}")
    if mode == "transductive":
        return forward_tasks(model, weights, query_x)
    if mode == "support only":
        shots = support_x.shape[1]
        return forward_tasks(model, weights, torch.cat([support_x, query_x], dim=1), statistics_of=shots)[:, shots:]
    queries = query_x.split(1, dim=1)
    return torch.cat(
        [forward_tasks(model, weights, torch.cat([support_x, query], dim=1))[:, -1:] for query in queries], dim=1
    )


def evaluate_modes(model, learner, batch, inner, generator, modes=MODES):
    """Mode → one score per task of a TaskBatch, float [tasks]: adapt on the support set, predict the queries.

    The score is the share of correct labels, or for real targets the mean squared error. A task's score has the same
    bits however many tasks come after it in the batch.

    Raises FloatingPointError if an inner loop diverges, ValueError for an empty batch.
    """
    tasks, examples = batch.support_x.shape[:2]
    at_least_one(tasks=tasks)
    order = minibatches(tasks, examples, inner, generator)
    scores = {mode: [] for mode in modes}
    at_once = 25 * TASKS_AT_ONCE if order.is_cuda else TASKS_AT_ONCE  # eight would not keep a GPU busy
    parts = range(0, tasks, at_once)
    for start in tqdm(parts, desc="evaluation", leave=False, disable=len(parts) < 4):
        # The last part is filled up with tasks of the first: rounding differs with the number of tasks at once.
        part = torch.arange(start, start + at_once, device=order.device) % tasks
        support_x, support_y, query_x, query_y = TaskBatch(*(tensor[part] for tensor in batch))
        weights = adapt_together(model, learner, support_x, support_y, order[part], inner).weights
        if diverged(learner.weights, weights).any():
            raise FloatingPointError(
                f"an inner loop diverged among tasks {start} to {min(start + at_once, tasks) - 1}: no mean over "
                f"tasks has a meaning then. Take a smaller learning rate than {inner.lr:g}, or fewer steps."
            )
        for mode in modes:
            output = predict(model, weights, support_x, query_x, mode)
            if query_y.is_floating_point():
                scores[mode].append(squared_error(output, query_y))
            else:
                scores[mode].append(accuracy(output.argmax(-1), query_y))
    return {mode: torch.cat(parts)[:tasks] for mode, parts in scores.items()}


def evaluate(model, learner, batch, inner, generator, mode="transductive"):
    """One score per task, float [tasks], in one mode; see `evaluate_modes`."""
    return evaluate_modes(model, learner, batch, inner, generator, [mode])[mode]


def adaptation_path(model, learner, support_x, support_y, inner, generator):
    """The Learners of one task before the first inner step and after each: a list of inner.steps + 1.

    support_x: [examples, *input shape]; support_y: [examples] labels or [examples, …] targets. Each step goes on with
    the moments of the step before, so inner.carry_moments must be True, or there is a ValueError.
    """
    if not inner.carry_moments:
        raise ValueError("inner.carry_moments is False; a path needs the moments of the step before")
    path, one_step = [learner], replace(inner, steps=1)
    for batch in minibatches(1, len(support_x), inner, generator).unbind(1):
        adapted = adapt_together(model, path[-1], support_x[None], support_y[None], batch[:, None], one_step)
        weights, moments = ({name: t[0] for name, t in d.items()} for d in (adapted.weights, adapted.second_moment))
        path.append(Learner(weights, moments, adapted.adam_steps))
    return path


def with_ways(learner, ways):
    """The Learner with only the first `ways` outputs of its last layer: for a task with fewer classes.

    Raises ValueError if it has no such number of outputs, or for fewer than two.
    """
    outputs = len(next(reversed(learner.weights.values())))
    if not 1 < ways <= outputs:
        raise ValueError(f"ways is {ways!r}; it must be 2 to {outputs}")
    last = list(learner.weights)[-2:]  # the last layer's weight and bias
    weights, moments = (
        {name: t[:ways] if name in last else t for name, t in d.items()}
        for d in (learner.weights, learner.second_moment)
    )
    return Learner(weights, moments, learner.adam_steps)


def nearest_neighbour(batch):
    """Labels for the queries, int64 [tasks, queries]: the label of the support example with the closest pixels.

    The baseline that learns nothing, in Euclidean distance. batch: a TaskBatch with class labels.
    """
    if batch.support_y.is_floating_point():
        raise ValueError(f"support_y is {batch.support_y.dtype}; a nearest neighbour needs class labels, int64")
    distances = torch.cdist(batch.query_x.flatten(2), batch.support_x.flatten(2))
    return batch.support_y.gather(1, distances.argmin(-1))


def accuracy(labels, query_y):
    """The share of correct labels in each task, float [tasks]; both arguments are int64 [tasks, queries]."""
    check_same_shape(labels, query_y)
    return (labels == query_y).float().mean(1)


def squared_error(output, query_y):
    """The mean squared error of each task, float [tasks]; both arguments are float [tasks, queries, 1]."""
    check_same_shape(output, query_y)
    return (output - query_y).square().flatten(1).mean(1)


def check_same_shape(predicted, query_y):
    if predicted.shape != query_y.shape or predicted.numel() == 0:  # PyTorch would broadcast
        raise ValueError(f"predicted is {list(predicted.shape)}, query_y {list(query_y.shape)}: it must be one shape")


def mean_and_interval(scores):
    """The mean over tasks, and half the width of its 95 % interval, 1.96 standard errors: two floats.

    scores: float [tasks], one per independent task, at least two, all finite, or there is a ValueError.
    """
    if scores.dim() != 1 or len(scores) < 2:
        raise ValueError(f"scores has the shape {list(scores.shape)}; an interval needs [tasks] with at least 2 tasks")
    if not scores.isfinite().all():
        raise ValueError(f"{(~scores.isfinite()).sum()} of {len(scores)} scores are infinite or no number")
    return scores.mean().item(), 1.96 * scores.std().item() / math.sqrt(len(scores))

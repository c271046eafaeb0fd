"""Reptile (Nichol, Achiam and Schulman, 2018), for any network and any source of tasks.

φ (`phi`) is the initialization, θ (`theta`) are the weights of one task. One meta-iteration is

    for each task of the meta-batch:   θ ← φ, then k steps of SGD or Adam on the task    (the inner loop)
    φ ← φ + ε · (mean of θ − φ)                                                          (the outer step)

With Adam, its second moments and step count are learned along with φ. The building blocks are in `learner.py`.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from tqdm.auto import trange

from reptile_helpers.arguments import require_fraction, require_positive, require_whole

from reptile_helpers.learner import (  # isort: skip
    InnerLoop, Learner, Weights, advise_on_divergence, call_with, check_shapes, finish_inner_loop, has_diverged,
    keep_parameters, minibatches, start_inner_loop, task_loss,
)  # fmt: skip


@torch.inference_mode(False)  # gradients, even where the caller has switched them off
def adapt_one(model: nn.Module, learner: Learner, x: Tensor, y: Tensor, batches: Tensor, inner: InnerLoop) -> Learner:
    """The inner loop for one task: start at φ and take one step per mini-batch. The model keeps its own parameters.

    x, y: the task's support set. batches: int64 [steps, batch_size], the examples that each step uses.
    """
    theta, optimizer = start_inner_loop(learner, inner)
    for batch in batches:
        loss = task_loss(call_with(model, theta, x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return finish_inner_loop(learner, inner, theta, optimizer)


def adapt_one_by_one(
    model: nn.Module, learner: Learner, x: Tensor, y: Tensor, batches: Tensor, inner: InnerLoop
) -> Learner:
    """The inner loops of a meta-batch, one after the other: x, y, batches and the result have the tasks in front."""
    ends = [adapt_one(model, learner, *task, inner) for task in zip(x, y, batches, strict=True)]
    weights = {name: torch.stack([end.weights[name] for end in ends]) for name in learner.weights}
    moments = {name: torch.stack([end.second_moment[name] for end in ends]) for name in learner.weights}
    return Learner(weights, moments, ends[0].adam_steps)


@torch.no_grad()
def outer_step(phi: Weights, theta: Weights, epsilon: float) -> None:
    """Move φ a fraction ε of the way to the mean of the tasks' weights, in place. theta: name → [tasks, *shape]."""
    if not isinstance(epsilon, Tensor):  # `speed_up` may pass a tensor; `meta_train` has checked the number before
        require_fraction(epsilon=epsilon)
    check_shapes(phi, theta)
    for name, p in phi.items():
        p += epsilon * (theta[name].mean(0) - p)


def outer_gradient(phi: Weights, theta: Weights) -> None:
    """The same step as a gradient, φ − mean of θ, in each tensor's `.grad`, for any optimizer of torch.optim."""
    check_shapes(phi, theta)
    for name, p in phi.items():
        p.grad = p - theta[name].mean(0)


@torch.inference_mode(False)
@keep_parameters
def meta_train(
    model: nn.Module, learner: Learner, tasks, inner: InnerLoop, *, meta_iterations: int, meta_batch: int,
    generator: torch.Generator, epsilon: float = 1.0, adapt: Callable = adapt_one_by_one, start: int = 0,
    outer_optimizer: Callable | None = None, callback: Callable | None = None, speed_up: Callable | None = None,
) -> Learner:  # fmt: skip
    """Reptile. Returns the meta-trained Learner; the given one and the model's own parameters stay as they are.

    model: the network, and learner: where to start.
    tasks: `sample(count, generator)` returns a TaskBatch, of which only the support sets are used.
    meta_batch: the number of tasks in each meta-iteration.
    generator: the only source of randomness, unless the network has random layers such as dropout.
    epsilon: the outer step size ε at the start, annealed linearly to 0.
    adapt: how to learn a meta-batch; `adapt_together` is faster.
    start: the number of meta-iterations already done. If the generator's state is restored, too, a CPU computes the
        same bits as in one go; only an outer optimizer starts afresh.
    outer_optimizer: replaces the outer step, ε and its annealing included; a function of the parameters that returns
        an optimizer, such as `partial(torch.optim.Adam, lr=0.001)`.
    callback: called as callback(iteration, learner), from 1 on. The learner changes in place: copy what you keep.
    speed_up: gets the two halves of a meta-iteration and returns faster ones.
    Raises FloatingPointError if an inner loop diverges, before the outer step: the last learner is still valid.
    """
    require_whole(meta_iterations=meta_iterations, meta_batch=meta_batch)
    require_whole(minimum=0, start=start)
    require_positive(epsilon=epsilon)
    require_fraction(epsilon=epsilon)
    if start > meta_iterations:
        raise ValueError(f"start is {start}; it must be at most meta_iterations, which is {meta_iterations}")
    learner = deepcopy(learner)
    phi = learner.weights
    optimizer = outer_optimizer(phi.values()) if outer_optimizer else None

    def learn_new_tasks() -> tuple[Learner, Tensor]:
        x, y, _, _ = tasks.sample(meta_batch, generator)
        learned = adapt(model, learner, x, y, minibatches(*x.shape[:2], inner, generator), inner)
        return learned, has_diverged(phi, learned.weights).any()

    def move_initialization(learned: Learner, step_size: float) -> None:
        if optimizer:
            outer_gradient(phi, learned.weights)
            optimizer.step()
        else:
            outer_step(phi, learned.weights, step_size)
        for name, v in learned.second_moment.items():
            learner.second_moment[name].copy_(v.mean(0))
        learner.adam_steps += learned.adam_steps - learner.adam_steps  # in place, where it is a tensor

    if speed_up:
        learn_new_tasks, move_initialization = speed_up(learn_new_tasks, move_initialization)
    bar = {"initial": start, "total": meta_iterations, "desc": "meta-training", "mininterval": 1}
    for iteration in trange(start, meta_iterations, **bar):
        learned, diverged = learn_new_tasks()
        if diverged:
            raise FloatingPointError(
                f"meta-iteration {iteration + 1}: an inner loop diverged. φ is unchanged since meta-iteration "
                f"{iteration}. {advise_on_divergence(inner)}"
            )
        move_initialization(learned, epsilon * (1 - iteration / meta_iterations))
        if callback:
            callback(iteration + 1, learner)
    return learner

"""Reptile (Nichol, Achiam, Schulman 2018): adapt to a few tasks, then move the initialization towards where they ended.

φ (`phi`) is the initialization, θ (`theta`) are the weights of one task. One meta-iteration is

    for each task of the meta-batch:  θ ← φ, then a few steps of SGD or Adam on the task's support set
    φ ← φ + ε · (mean of θ − φ)

The inner loop is here twice: `adapt_one_by_one` reads like any PyTorch training loop, `adapt_together` takes the same
steps for all tasks of a meta-batch as one tensor program. The second is faster and the default.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch

# torch.optim would import it at its first step. A stop button pressed at that moment would leave half of it, and no
# later step would work; and imported after torch.distributed's start, it keeps the threads of the processes alive.
import torch._dynamo  # noqa: F401
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from tqdm.auto import trange

from reptile_helpers.models import forward_tasks
from reptile_helpers.tasks import at_least_one, positive

# An inner loop has diverged when it moves the weights by more than so many times the norm of φ. Loops that learn move
# them by 1 to 35 % of it, loops that diverge by 14 times and more: sine waves and Omniglot, SGD and Adam.
DIVERGED = 10


@dataclass(frozen=True)
class InnerLoop:
    """How to learn one task: `steps` steps of "sgd" or "adam" at rate `lr` on mini-batches of `batch_size` examples.

    Adam has β1 = 0 and β2 = 0.999, as in the authors' code. With `carry_moments` a task starts from the second moments
    of the learner; without, from zeros.
    """

    optimizer: str
    lr: float
    steps: int
    batch_size: int
    carry_moments: bool = True

    def __post_init__(self):
        at_least_one(steps=self.steps, batch_size=self.batch_size)
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f'optimizer is {self.optimizer!r}; it must be "sgd" or "adam"')
        positive(lr=self.lr)


@dataclass
class Learner:
    """Weights and what Adam remembers: name → tensor, twice, and the number of Adam steps taken.

    As an initialization the tensors have the shapes of the model's parameters; after adaptation to many tasks, each
    has one more dimension in front: [tasks, *parameter shape]. Reptile learns all three: in the authors' code only the
    weights return to φ between tasks, while the second moments and the step count live on.
    """

    weights: dict[str, Tensor]
    second_moment: dict[str, Tensor]
    adam_steps: int = 0

    @classmethod
    def of(cls, model):
        """A copy of the model's parameters, with fresh moments."""
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        return cls(weights, {name: torch.zeros_like(p) for name, p in weights.items()})


def task_loss(output, y):
    """Cross-entropy for class labels, mean squared error for real targets: the mean over all examples.

    output: [examples, classes], y: int64 [examples]; or both float and of one shape, else there is a ValueError.
    """
    if not y.is_floating_point():
        return F.cross_entropy(output, y)
    if output.shape != y.shape:  # PyTorch would broadcast
        raise ValueError(f"the outputs are {list(output.shape)}, the targets {list(y.shape)}: it must be one shape")
    return F.mse_loss(output, y)


def minibatches(tasks, examples, inner, generator):
    """Indices [tasks, steps, batch_size] of the inner mini-batches: passes over the support set, each in a new order.

    The passes are laid end to end and cut, so that a batch may straddle two of them, as in the authors' code.
    """
    at_least_one(tasks=tasks, examples=examples)
    passes = -(-inner.steps * inner.batch_size // examples)
    order = torch.rand((tasks, passes, examples), generator=generator, device=generator.device).argsort(-1)
    return order.flatten(1)[:, : inner.steps * inner.batch_size].view(tasks, inner.steps, inner.batch_size)


def begin(learner, inner, *tasks):
    """Weights θ that start at φ, second moments, and the optimizer that changes both; with `tasks`, once per task."""
    theta = {name: p.expand(*tasks, *p.shape).clone().requires_grad_() for name, p in learner.weights.items()}
    moments = {name: v.expand(*tasks, *v.shape).clone() for name, v in learner.second_moment.items()}
    steps = learner.adam_steps
    if inner.optimizer == "sgd":
        return theta, moments, steps, torch.optim.SGD(theta.values(), inner.lr)
    if not inner.carry_moments:
        moments, steps = {name: torch.zeros_like(v) for name, v in moments.items()}, 0 * steps
    recording = isinstance(steps, Tensor)  # see `recorded`
    optimizer = torch.optim.Adam(theta.values(), inner.lr, betas=(0.0, 0.999), fused=True, capturable=recording)
    taken = torch.zeros(len(theta), dtype=torch.float32, device=next(iter(theta.values())).device) + steps
    for (name, p), step in zip(theta.items(), taken.unbind(), strict=True):
        optimizer.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": moments[name]}
    return theta, moments, steps + inner.steps, optimizer


def adapt_one_by_one(model, learner, x, y, batches, inner):
    """The inner loop as one would write it: for each task, start at φ and take a few steps.

    x, y: the support sets of a TaskBatch. batches: int64 [tasks, steps, batch_size], see `minibatches`.
    Returns a Learner whose tensors have the tasks as first dimension.
    """
    weights, second_moments = [], []
    for x_task, y_task, order in zip(x, y, batches, strict=True):
        theta, moments, steps, optimizer = begin(learner, inner)
        for batch in order:
            loss = task_loss(functional_call(model, theta, (x_task[batch],)), y_task[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights.append(theta)
        second_moments.append(moments)
    return Learner(stack(weights), stack(second_moments), steps)


def stack(dicts):
    return {name: torch.stack([d[name].detach() for d in dicts]) for name in dicts[0]}


def loss_of_tasks(model, theta, x, y):
    """The sum of the tasks' losses: the gradient of each task's weights is that of its own loss. A number."""
    output = forward_tasks(model, theta, x)
    return len(x) * task_loss(output.flatten(0, 1), y.flatten(0, 1))  # it is a mean over the examples of all tasks


def adapt_together(model, learner, x, y, batches, inner, loss_of_tasks=loss_of_tasks):
    """The same steps as `adapt_one_by_one`, with the same result, for all tasks at once."""
    theta, moments, steps, optimizer = begin(learner, inner, len(x))
    if not len(x) == len(y) == len(batches):
        raise ValueError(f"x has {len(x)} tasks, y {len(y)} and batches {len(batches)}: it must be the same number")
    rows = torch.arange(len(x), device=x.device)[:, None]
    for batch in batches.unbind(1):
        loss = loss_of_tasks(model, theta, x[rows, batch], y[rows, batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Learner({name: p.detach() for name, p in theta.items()}, moments, steps)


def adapt_compiled(model, learner, x, y, batches, inner):
    """The same once more, for `cuda_graph` in `meta_train`; the first call takes some ten seconds."""
    return adapt_together(model, learner, x, y, batches, inner, compiled(loss_of_tasks))


def compiled(function):
    """`function` after torch.compile, which fuses its small operations.

    On a GPU that takes Triton, which is part of PyTorch for Linux, and a GPU of 2017 or later. Without Triton, or with
    TORCH_COMPILE_DISABLE=1 in the environment, the function runs as it is.
    """
    return torch.compile(function, dynamic=False) if find_spec("triton") else function


@torch.no_grad()
def diverged(phi, theta):
    """Which tasks' weights are nowhere near φ any more, or no numbers at all: bool [tasks]. See DIVERGED."""
    moved = torch.cat([(theta[name] - p).flatten(1) for name, p in phi.items()], dim=1).square().sum(1)
    norm = torch.cat([p.flatten() for p in phi.values()]).square().sum()
    return ~(moved <= DIVERGED**2 * norm.clamp(min=1))


def check_shapes(phi, theta):
    """Raise ValueError unless theta has the shapes of phi with the tasks in front; PyTorch would broadcast."""
    for name, p in phi.items():
        if len(theta[name]) == 0 or theta[name].shape[1:] != p.shape:
            raise ValueError(f"theta[{name!r}] is {list(theta[name].shape)}; it must be [tasks, *{list(p.shape)}]")


@torch.no_grad()
def outer_step(phi, theta, epsilon):
    """Move φ a fraction ε of the way to the mean of the tasks' weights, in place. theta: name → [tasks, *shape]."""
    if not isinstance(epsilon, Tensor):  # see `recorded`: to look at it would stop the GPU
        positive(epsilon=epsilon)
    check_shapes(phi, theta)
    for name, p in phi.items():
        p += epsilon * (theta[name].mean(0) - p)


def outer_gradient(phi, theta):
    """The same step as a gradient, φ − mean of θ, in each tensor's `.grad`, for any optimizer of torch.optim."""
    check_shapes(phi, theta)
    for name, p in phi.items():
        p.grad = p - theta[name].mean(0)


def recorded(function, generator):
    """`function`, recorded as a CUDA graph at its second call and replayed from then on.

    A meta-iteration is a thousand small operations, and a GPU does them faster than Python can launch them; a graph
    launches them all at once. `function` may do nothing but tensor operations, always the same ones. It gets numbers
    among its arguments as tensors, which have their new values before each replay; all other arguments must be the
    same objects each time. What it returns is the same each time, too, with new contents. The first call is
    an ordinary one: libraries set themselves up in it, compilers compile, and that cannot be recorded.
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


def meta_train(
    model, learner, tasks, inner, *, meta_iterations, meta_batch, generator,
    epsilon=1.0, outer_optimizer=None, adapt=adapt_together, callback=None, start=0, cuda_graph=False,
):  # fmt: skip
    """Reptile. Returns the meta-trained Learner; the one that was given, and the model's own parameters, stay as is.

    model: the network; learner: where to start; tasks: a source of tasks with `sample(count, generator)`;
    inner: an InnerLoop; meta_batch: tasks per meta-iteration; generator: the only source of randomness.
    epsilon: outer step size ε at the start, annealed linearly to 0. Or, instead of it, outer_optimizer: a function
    of the parameters, such as `partial(torch.optim.Adam, lr=0.001)`, whose optimizer takes the outer step.
    callback: called as `callback(iteration, learner)` after each meta-iteration, iteration = 1 … meta_iterations.
    start: how many meta-iterations the learner has behind it, to go on with a run: the rest is then what it would have
    been, if the generator is where it was. (The state of an outer optimizer is not kept.)
    cuda_graph: on a GPU, record a meta-iteration once and replay it, which is many times faster, most of all with
    `adapt=adapt_compiled`. `tasks.sample` must then do nothing but tensor operations there, always the same ones.
    Not with an outer optimizer.

    Raises FloatingPointError at the first meta-iteration with a diverged inner loop, before its outer step: what the
    callback saw last is good.
    """
    at_least_one(meta_iterations=meta_iterations, meta_batch=meta_batch)
    positive(epsilon=epsilon)
    if epsilon > 1:
        raise ValueError(f"epsilon is {epsilon!r}; it must be a positive number of at most 1")
    if not 0 <= start <= meta_iterations:
        raise ValueError(f"start is {start!r}; it must be 0 to {meta_iterations}, the number of meta-iterations")
    if cuda_graph and (outer_optimizer or generator.device.type != "cuda"):
        raise ValueError("cuda_graph needs a generator on a GPU, and no outer optimizer")
    learner = deepcopy(learner)
    phi = learner.weights
    outer = outer_optimizer(phi.values()) if outer_optimizer else None

    def adapt_to_new_tasks(adam_steps):
        x, y, _, _ = tasks.sample(meta_batch, generator)
        batches = minibatches(*x.shape[:2], inner, generator)
        adapted = adapt(model, replace(learner, adam_steps=adam_steps), x, y, batches, inner)
        return adapted, diverged(phi, adapted.weights).any()

    def move(adapted, epsilon):
        if outer:
            outer_gradient(phi, adapted.weights)
            outer.step()
        else:
            outer_step(phi, adapted.weights, epsilon)
        for name, v in adapted.second_moment.items():
            learner.second_moment[name].copy_(v.mean(0))

    if cuda_graph:
        adapt_to_new_tasks, move = recorded(adapt_to_new_tasks, generator), recorded(compiled(move), generator)
    for iteration in trange(
        start, meta_iterations, initial=start, total=meta_iterations,
        desc="meta-training", unit="meta-iteration", mininterval=1,
    ):  # fmt: skip
        adapted, lost = adapt_to_new_tasks(learner.adam_steps)
        if lost:
            raise FloatingPointError(
                f"meta-iteration {iteration + 1}: an inner loop diverged. φ is still what it was after {iteration}. "
                f"Take a smaller inner learning rate than {inner.lr:g}, or fewer steps."
            )
        learner.adam_steps = int(adapted.adam_steps)  # read now: after the outer step it would wait for the GPU again
        move(adapted, epsilon * (1 - iteration / meta_iterations))
        if callback:
            callback(iteration + 1, learner)
    return learner

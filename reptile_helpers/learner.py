"""What is learned, and what learning one task needs: settings of the inner loop, mini-batches, optimizer and loss.

φ (`phi`) is the initialization, θ (`theta`) are the weights of one task while it is being learned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from reptile_helpers.arguments import require_positive, require_whole

Weights = dict[str, Tensor]

# An inner loop has diverged when it has moved the weights by more than this many times the norm of φ (or 1, if that is
# larger). On sine waves and Omniglot, with SGD and Adam, loops that learn move them by 1 to 35 % of it; loops that
# diverge, by at least 14 times.
DIVERGENCE_FACTOR = 10


@dataclass(frozen=True)
class InnerLoop:
    """How to learn one task: `steps` steps of "sgd" or "adam" with rate `lr`, each on `batch_size` examples.

    Adam uses β1 = 0 and β2 = 0.999, as in the authors' code. With `carry_moments` each task starts from the learner's
    second moments; without it, from zeros.
    """

    optimizer: str
    lr: float
    steps: int
    batch_size: int
    carry_moments: bool = True

    def __post_init__(self) -> None:
        require_whole(steps=self.steps, batch_size=self.batch_size)
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f'optimizer is {self.optimizer!r}; it must be "sgd" or "adam"')
        require_positive(lr=self.lr)


@dataclass
class Learner:
    """Weights and Adam's state: its second moments (name → tensor, like the weights) and its number of steps.

    Before adaptation each tensor has the shape of the model's parameter. After adaptation to many tasks it has the
    tasks in front: [tasks, *parameter shape]. Reptile learns all three, as in the authors' code: only the weights
    return to φ between tasks, while the moments and the step count are kept. (There, each task of a meta-batch hands
    them to the next. Here all tasks of a meta-batch start alike, and the mean of their moments is kept.)
    """

    weights: Weights
    second_moment: Weights
    adam_steps: int = 0  # during training on a GPU, a 0-dimensional tensor

    @classmethod
    def of(cls, model: nn.Module) -> "Learner":
        """A copy of the model's trainable parameters, with fresh moments.

        Parameters with requires_grad=False are frozen: they stay in the model, and no task changes them.
        """
        weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        if not weights:
            raise ValueError("the model has no trainable parameters: at least one must have requires_grad=True")
        return cls(weights, {name: torch.zeros_like(p) for name, p in weights.items()})


def call_with(model: nn.Module, weights: Weights, x: Tensor) -> Tensor:
    """What the model computes with these weights in place of its own; parameters not listed keep its values.

    x: [examples, *input shape]. torch.func.functional_call alone would be enough, but if one layer is used twice, it
    leaves these weights in the model afterwards (seen with PyTorch 2.14). Therefore shared weights are tied here.
    """
    aliases: dict[int, list[str]] = {}
    for module_name, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False, remove_duplicate=False):
            aliases.setdefault(id(p), []).append(f"{module_name}.{name}".lstrip("."))
    parameters = dict(model.named_parameters())
    tied = {alias: w for name, w in weights.items() for alias in aliases[id(parameters[name])]}
    return functional_call(model, tied, (x,), tie_weights=False)


def keep_parameters(function: Callable) -> Callable:
    """A decorator for functions of a model: when they end, the model has its own parameters, whatever happened.

    `call_with` puts others in their place for a moment. An interrupt at this moment (Ctrl-C, Jupyter's stop button)
    would leave them there.
    """

    @wraps(function)
    def call(model, *arguments, **options):
        own = [
            (module, name, p)
            for module in model.modules()
            for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
        ]
        try:
            return function(model, *arguments, **options)
        finally:
            for module, name, p in own:
                module.register_parameter(name, p)

    return call


def task_loss(output: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy for class labels, mean squared error for real targets: the mean over all examples, one number.

    output: [examples, classes] with y: int64 [examples], or both float. Float targets of another shape
    raise ValueError; wrong labels raise PyTorch's own errors.
    """
    if not y.is_floating_point():
        return F.cross_entropy(output, y)
    if output.shape != y.shape:  # PyTorch would broadcast
        raise ValueError(f"outputs are {list(output.shape)}, targets {list(y.shape)}; they must have the same shape")
    return F.mse_loss(output, y)


def minibatches(tasks: int, examples: int, inner: InnerLoop, generator: torch.Generator) -> Tensor:
    """Which examples each inner step uses: int64 [tasks, steps, batch_size], on the generator's device.

    Each pass over the support set has a new random order. The passes are laid end to end and cut into batches, so a
    batch may straddle two passes, as in the authors' code.
    """
    require_whole(tasks=tasks, examples=examples)
    passes = -(-inner.steps * inner.batch_size // examples)
    order = torch.rand((tasks, passes, examples), generator=generator, device=generator.device).argsort(-1)
    return order.flatten(1)[:, : inner.steps * inner.batch_size].view(tasks, inner.steps, inner.batch_size)


def start_inner_loop(learner: Learner, inner: InnerLoop, tasks: int | None = None) -> tuple[Weights, Optimizer]:
    """θ, a copy of φ, and the optimizer that will change it. With `tasks`, as many copies along a first dimension."""
    front = () if tasks is None else (tasks,)
    theta = {name: p.expand((*front, *p.shape)).clone().requires_grad_() for name, p in learner.weights.items()}
    if inner.optimizer == "sgd":
        return theta, SGD(theta.values(), inner.lr)
    on_gpu = next(iter(theta.values())).is_cuda
    optimizer = Adam(theta.values(), inner.lr, betas=(0.0, 0.999), fused=True, capturable=on_gpu)
    if inner.carry_moments:
        # A step counter per tensor: Adam counts in place. With β1 = 0, Adam's first moment is not used.
        steps = torch.zeros(len(theta), device=next(iter(theta.values())).device) + learner.adam_steps
        state = {
            i: {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": v.expand_as(p).clone()}
            for i, (p, v, step) in enumerate(
                zip(theta.values(), learner.second_moment.values(), steps.float().unbind(), strict=True)
            )
        }
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return theta, optimizer


def finish_inner_loop(learner: Learner, inner: InnerLoop, theta: Weights, optimizer: Optimizer) -> Learner:
    """What an inner loop has learned: θ, and the moments and step count that its optimizer ends with."""
    weights = {name: p.detach() for name, p in theta.items()}
    if inner.optimizer == "sgd":
        moments = {name: v.expand_as(weights[name]).clone() for name, v in learner.second_moment.items()}
        return Learner(weights, moments, learner.adam_steps)
    state = optimizer.state_dict()["state"]
    unused = {"exp_avg_sq": None}  # a parameter that took no part in the loss has no state
    found = {name: state.get(i, unused)["exp_avg_sq"] for i, name in enumerate(theta)}
    moments = {name: torch.zeros_like(weights[name]) if v is None else v for name, v in found.items()}
    return Learner(weights, moments, (learner.adam_steps if inner.carry_moments else 0) + inner.steps)


@torch.no_grad()
def has_diverged(phi: Weights, theta: Weights) -> Tensor:
    """Which tasks' weights have moved far away from φ, or are NaN or infinite: bool [tasks]. See DIVERGENCE_FACTOR."""
    differences = [(theta[name] - p).reshape(len(theta[name]), -1) for name, p in phi.items()]
    moved = torch.cat(differences, dim=1).square().sum(1)
    norm = torch.cat([p.flatten() for p in phi.values()]).square().sum()
    return ~(moved <= DIVERGENCE_FACTOR**2 * norm.clamp(min=1))


def advise_on_divergence(inner: InnerLoop) -> str:
    """What to tell someone whose inner loop has diverged."""
    return (
        f"Use a smaller inner learning rate than {inner.lr:g}, or fewer steps. (A loop counts as diverged when it has "
        f"moved the weights by more than {DIVERGENCE_FACTOR} times the norm of φ. If targets need that, scale them.)"
    )


def check_shapes(phi: Weights, theta: Weights) -> None:
    """Raise ValueError unless θ has the shapes of φ with the tasks in front."""
    for name, p in phi.items():  # PyTorch would broadcast
        if len(theta[name]) == 0 or theta[name].shape[1:] != p.shape:
            raise ValueError(f"theta[{name!r}] is {list(theta[name].shape)}; it must be [tasks, *{list(p.shape)}]")

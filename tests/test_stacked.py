"""Many networks as one program: exactly what each network itself would give, whatever its layers and options."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reptile_helpers.evaluate import evaluate, predict
from reptile_helpers.gpu import convolve_as_products
from reptile_helpers.learner import InnerLoop, Learner, minibatches
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.reptile import adapt_one_by_one, meta_train
from reptile_helpers.stacked import adapt_together, find_obstacle, forward_stacked, forward_tasks
from reptile_helpers.tasks import SineTasks

TASKS, EXAMPLES = 3, 4
NETWORKS = 400


class Choices:
    """Random choices from a seed, for networks that are the same in every run."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def one(self, *values):
        return values[torch.randint(len(values), (), generator=self.generator)]

    def maybe(self):
        return self.one(True, False)


def random_activation(choose, shared):
    return choose.one(nn.ReLU(), nn.Tanh(), nn.ReLU(inplace=True), shared, shared, nn.LeakyReLU(0.3))


def random_network(seed):
    """An nn.Sequential of convolutions and linear layers with random options. Returns it and one task's inputs."""
    choose = Choices(seed)
    torch.manual_seed(seed)
    layers, shared = [], choose.one(nn.ReLU(), nn.Tanh())
    images = choose.one(True, True, False)
    if images:
        channels = choose.one(1, 2, 4)
        x = torch.randn(TASKS, EXAMPLES, channels, 9, 8)
        for _ in range(choose.one(1, 2)):
            out = choose.one(2, 4, 6)
            groups = 2 if channels % 2 == 0 and choose.maybe() else 1
            stride = choose.one(1, 2)
            padding = choose.one(0, 1, 2, (1, 0), "valid", "same" if stride == 1 else 1)
            mode = choose.one("zeros", "zeros", "zeros", "circular", "reflect") if padding == 1 else "zeros"
            dilation = choose.one(1, 1, 2)
            kernel = choose.one(1, 2, 3, (3, 2)) if mode == "zeros" else 3
            layers.append(
                nn.Conv2d(
                    channels, out, kernel, stride, padding, dilation, groups, bias=choose.maybe(), padding_mode=mode
                )
            )
            channels = out
            if choose.maybe():
                track = choose.one(False, False, True)
                layers.append(
                    nn.BatchNorm2d(
                        channels, eps=choose.one(1e-3, 0.1), affine=choose.maybe(), track_running_stats=track
                    )
                )
                if track:
                    layers[-1].running_mean.normal_()
                    layers[-1].running_var.uniform_(0.5, 2)
            layers.append(random_activation(choose, shared))
            if choose.one(True, False, False):
                layers.append(choose.one(nn.MaxPool2d(2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2, 1)))
        whole = [nn.Flatten(), nn.Flatten(), nn.Flatten(1, 3), nn.Flatten(-3)]
        layers.append(choose.one(*whole, nn.Flatten(2)))  # the last one leaves channels as they are
        try:
            features = nn.Sequential(*layers)(x[0].clone()).shape[-1]
        except RuntimeError:  # the image has become smaller than the kernel
            return random_network(seed + 10_000)
    else:
        features = choose.one(1, 3)
        x = torch.randn(TASKS, EXAMPLES, features)
    hidden = choose.one(3, 5)
    layers += [nn.Linear(features, hidden, bias=choose.maybe()), random_activation(choose, shared)]
    if choose.maybe():
        square = nn.Linear(hidden, hidden)
        layers += [square, random_activation(choose, shared)] * choose.one(1, 1, 2)  # twice: shared weights
    layers.append(nn.Linear(hidden, 2, bias=choose.maybe()))
    if choose.maybe():
        model = nn.Sequential(*layers)
    else:
        model = nn.Sequential(OrderedDict((f"layer{i}", layer) for i, layer in enumerate(layers)))
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
        if choose.one(True, False, False, False):
            p.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        next(iter(model.parameters())).requires_grad_()
    return model.train(choose.maybe()).double(), x.double()


def run_each_task(model, weights, x):
    """The specification: copy each task's weights into the model, and call it."""
    outputs = []
    for task in range(len(x)):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, w in weights.items():
                parameters[name].copy_(w[task])
            outputs.append(model(x[task].clone()))
            model.load_state_dict(state)
    return torch.stack(outputs)


def task_weights(model):
    return {
        name: torch.stack([p.detach() + 0.3 * torch.randn_like(p) for _ in range(TASKS)])
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def test_any_network_gives_what_the_model_itself_gives():
    """Hundreds of random networks, layers and options; most of them stacked, and the others run one after the other."""
    stacked = 0
    for seed in range(NETWORKS):
        model, x = random_network(seed)
        weights, before = task_weights(model), x.clone()
        expected = run_each_task(model, weights, x)
        can_be_stacked = find_obstacle(model, weights, x) is None
        stacked += can_be_stacked
        state = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            result = forward_tasks(model, weights, x)
            changed = [name for name, value in model.state_dict().items() if not torch.equal(value, state[name])]
            assert all("running" in name or "num_batches" in name for name in changed), changed
            model.load_state_dict(state)  # running statistics, if it has any
            products = forward_stacked(model, weights, x, convolve=convolve_as_products) if can_be_stacked else result
        told = f"network {seed}: {model}, train={model.training}, {find_obstacle(model, weights, x)}"
        assert torch.equal(x, before) or isinstance(model[0], nn.ReLU), told
        assert torch.allclose(result, expected, rtol=0, atol=1e-9), told
        assert torch.allclose(products, expected, rtol=0, atol=1e-9), told
    assert 0.25 * NETWORKS < stacked < 0.75 * NETWORKS, f"{stacked} networks were stacked: both ways must be tried"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_any_network_learns_together_what_it_learns_one_by_one(optimizer):
    """Random networks with trainable and frozen parameters: the same weights, and frozen ones in neither."""
    inner = InnerLoop(optimizer, lr=0.01, steps=3, batch_size=2)
    tried = 0
    for seed in range(0, NETWORKS, 5):
        model, x = random_network(seed)
        if model.training and any(getattr(layer, "running_mean", None) is not None for layer in model):
            continue  # it changes itself in every forward pass
        if model(x[0].clone()).dim() > 2:
            continue  # its outputs are not classes
        tried += 1
        learner = Learner.of(model)
        y = torch.randint(2, (TASKS, EXAMPLES))
        order = minibatches(TASKS, EXAMPLES, inner, torch.Generator().manual_seed(seed))
        alone, together = (adapt(model, learner, x, y, order, inner) for adapt in (adapt_one_by_one, adapt_together))
        assert set(together.weights) == {name for name, p in model.named_parameters() if p.requires_grad}
        for name, p in alone.weights.items():
            # The bias in front of batch norm has no true gradient, and Adam turns its rounding noise into steps.
            noise = 0.05 if optimizer == "adam" and p.dim() == 2 and p[0].numel() < 7 else 1e-7
            assert torch.allclose(p, together.weights[name], rtol=0, atol=noise), (seed, name, model)
    assert tried > 50


class Functional(nn.Module):
    """A network with an activation that is a function, and a skip connection."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(1, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        x = torch.tanh(self.one(x))
        return self.three(x + torch.tanh(self.two(x)))


class Reversed(nn.Sequential):
    """A Sequential with a forward of its own."""

    def forward(self, x):
        return super().forward(-x)


def hooked():
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    model[1].register_forward_hook(lambda layer, inputs, output: 2 * output)
    return model


def replaced_forward():
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    model[1].forward = torch.sin
    return model


def tied():
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 1))
    model[4].weight = model[2].weight
    return model


class Tied(nn.Module):
    """One parameter under two names of the same module."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Parameter(torch.randn(4, 1))
        self.decode = self.encode

    def forward(self, x):
        return torch.tanh(x @ self.encode.T) @ self.decode


UNUSUAL = [
    Functional, hooked, replaced_forward, tied, Tied,
    lambda: Reversed(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)),
    lambda: nn.Sequential(nn.Sequential(nn.Linear(1, 4), nn.Tanh()), nn.Linear(4, 1)),
    lambda: nn.Sequential(nn.Linear(1, 4), nn.LayerNorm(4), nn.Softplus(), nn.Linear(4, 1)),
    lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(1, 4)), nn.Tanh(), nn.Linear(4, 1)),
]  # fmt: skip


@pytest.mark.parametrize("make", UNUSUAL)
def test_unusual_networks_run_as_they_are(float64, make):
    model = make()
    x = SineTasks().sample(TASKS, torch.Generator().manual_seed(0)).support_x
    weights = task_weights(model)
    assert find_obstacle(model, weights, x) is not None
    assert torch.allclose(forward_tasks(model, weights, x), run_each_task(model, weights, x), rtol=0, atol=1e-12)
    inner = InnerLoop("adam", lr=0.01, steps=5, batch_size=5)
    options = {"meta_iterations": 5, "meta_batch": 2}
    ends = [
        meta_train(
            model, Learner.of(model), SineTasks(), inner, generator=torch.Generator().manual_seed(0), adapt=a, **options
        )
        for a in (adapt_one_by_one, adapt_together)
    ]
    assert all(torch.allclose(p, ends[1].weights[name], rtol=0, atol=1e-9) for name, p in ends[0].weights.items())
    test = SineTasks().sample(3, torch.Generator().manual_seed(1))
    assert evaluate(model, ends[0], test, inner, torch.Generator().manual_seed(0)).isfinite().all()


def test_the_mode_that_needs_a_stack_says_so():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.GELU())
    weights, images = task_weights(model), torch.rand(TASKS, 5, 1, 2, 2)
    with pytest.raises(ValueError, match="needs a network that can be stacked: layer 2, GELU.* is not supported"):
        predict(model, weights, images, images, "support only")


def test_a_frozen_body_stays_where_it_is_and_the_head_adapts():
    model = omniglot_cnn(3)
    for p in model[:-1].parameters():
        p.requires_grad_(False)
    learner = Learner.of(model)
    assert list(learner.weights) == ["13.weight", "13.bias"]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    x, y = torch.rand(2, 6, 1, 28, 28), torch.arange(3).repeat(2, 2)
    inner = InnerLoop("adam", lr=1e-2, steps=8, batch_size=6)
    order = minibatches(2, 6, inner, torch.Generator().manual_seed(0))
    alone, together = (adapt(model, learner, x, y, order, inner) for adapt in (adapt_one_by_one, adapt_together))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    for name, p in together.weights.items():
        assert torch.allclose(p, alone.weights[name], atol=1e-5) and not torch.allclose(p[0], before[name], atol=1e-3)
    loss = F.cross_entropy(forward_tasks(model, together.weights, x).flatten(0, 1), y.flatten())
    assert loss < F.cross_entropy(model(x[0]), y[0]) - 0.1
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        Learner.of(model)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
@pytest.mark.parametrize("adapt", [adapt_one_by_one, adapt_together])
def test_learning_works_where_gradients_are_switched_off(off, adapt):
    """As in every tutorial's evaluation loop."""
    inner = InnerLoop("adam", lr=0.01, steps=3, batch_size=5)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def learn():
        learner, generator = Learner.of(model), torch.Generator().manual_seed(0)
        options = {"meta_iterations": 3, "meta_batch": 2, "generator": generator, "adapt": adapt}
        trained = meta_train(model, learner, SineTasks(), inner, **options)
        tasks = SineTasks().sample(4, generator)
        order = minibatches(4, 10, inner, generator)
        adapted = adapt(model, learner, tasks.support_x, tasks.support_y, order, inner)
        return trained.weights, adapted.weights, {"": evaluate(model, trained, tasks, inner, generator)}

    expected = learn()
    try:
        with off():
            result = learn()
    finally:
        torch.set_grad_enabled(True)
    for a, b in zip(expected, result, strict=True):
        assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


class Scaled(nn.Module):
    """A network with a scalar parameter, and one that takes no part."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale, self.unused = nn.Linear(1, 1), nn.Parameter(torch.tensor(2.0)), nn.Linear(2, 2)

    def forward(self, x):
        return self.scale * self.linear(x)


@pytest.mark.parametrize("carry", [True, False])
def test_scalar_and_unused_parameters(float64, carry):
    model, inner = Scaled(), InnerLoop("adam", lr=0.01, steps=3, batch_size=5, carry_moments=carry)
    ends = [
        meta_train(
            model, Learner.of(model), SineTasks(), inner, meta_iterations=3, meta_batch=2, adapt=adapt,
            generator=torch.Generator().manual_seed(0),
        )
        for adapt in (adapt_one_by_one, adapt_together)
    ]  # fmt: skip
    for name, p in ends[0].weights.items():
        assert torch.allclose(p, ends[1].weights[name], rtol=0, atol=1e-9)
        assert torch.equal(p, dict(model.named_parameters())[name]) == name.startswith("unused")

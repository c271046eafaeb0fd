from dataclasses import replace

import pytest
import torch
from torch import nn

from reptile_helpers.evaluate import (
    MODES,
    accuracy,
    adaptation_path,
    evaluate,
    evaluate_modes,
    mean_and_interval,
    nearest_neighbour,
    predict,
    with_ways,
)
from reptile_helpers.learner import InnerLoop, Learner, minibatches
from reptile_helpers.models import omniglot_cnn, sine_mlp
from reptile_helpers.stacked import adapt_together, forward_tasks
from reptile_helpers.tasks import FewShotTasks, SineTasks, TaskBatch

ADAM = InnerLoop("adam", lr=1e-3, steps=3, batch_size=5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def easy_images(classes=10, drawings=8):
    """A class is a noise pattern, a drawing has one pixel in twenty flipped: a learner should hardly ever err."""
    pattern = torch.randint(2, (classes, 1, 28, 28), generator=seeded(5))
    flips = torch.rand(classes, drawings, 28, 28, generator=seeded(6)) < 0.05
    return ((pattern ^ flips.long()) * 255).to(torch.uint8)


@pytest.mark.parametrize("mode", MODES)
def test_adapts_on_the_support_set_and_is_judged_on_the_queries(mode):
    torch.manual_seed(0)
    model = omniglot_cnn(5)
    batch = FewShotTasks(easy_images(), 5, 2, 3).sample(30, seeded())
    inner = InnerLoop("adam", lr=1e-3, steps=15, batch_size=5)
    good = evaluate(model, Learner.of(model), batch, inner, seeded(), mode)
    assert good.shape == (30,) and good.mean() > 0.9
    shifted = batch._replace(query_y=(batch.query_y + 1) % 5)
    assert evaluate(model, Learner.of(model), shifted, inner, seeded(), mode).mean() < 0.1
    swapped = batch._replace(support_y=(batch.support_y + 1) % 5)
    assert evaluate(model, Learner.of(model), swapped, inner, seeded(), mode).mean() < 0.1


def test_evaluation_of_many_tasks_is_that_of_each(monkeypatch):
    """However many tasks run at once, a task's score is its own."""
    torch.manual_seed(0)
    model, tasks = sine_mlp(), SineTasks().sample(7, seeded())
    inner = InnerLoop("sgd", lr=0.02, steps=4, batch_size=3)
    together = evaluate(model, Learner.of(model), tasks, inner, seeded())
    monkeypatch.setattr("reptile_helpers.evaluate.TASKS_AT_ONCE", 2)
    assert torch.allclose(evaluate(model, Learner.of(model), tasks, inner, seeded()), together, rtol=1e-5)

    order = minibatches(7, 10, inner, seeded())
    for task in range(7):
        learner = sine_mlp()
        learner.load_state_dict(model.state_dict())
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.02)
        for batch in order[task]:
            optimizer.zero_grad()
            nn.functional.mse_loss(learner(tasks.support_x[task, batch]), tasks.support_y[task, batch]).backward()
            optimizer.step()
        error = nn.functional.mse_loss(learner(tasks.query_x[task]), tasks.query_y[task])
        assert torch.allclose(error, together[task], rtol=1e-5)


@pytest.mark.parametrize("source", [SineTasks(), FewShotTasks(torch.zeros(5, 4, 28, 28, dtype=torch.uint8), 5, 2)])
def test_a_score_keeps_its_bits_however_many_tasks_there_are(source):
    torch.manual_seed(0)
    model = sine_mlp() if isinstance(source, SineTasks) else omniglot_cnn(5)
    batch = source.sample(20, seeded())
    if isinstance(source, FewShotTasks):  # noise, and the squared error of the logits, where every bit counts
        batch = TaskBatch(*(torch.rand(t.shape, generator=seeded(1)) if t.dim() > 2 else t for t in batch))
        batch = batch._replace(
            support_y=torch.randn(20, 10, 5, generator=seeded(2)), query_y=torch.randn(20, 5, 5, generator=seeded(3))
        )
    whole = evaluate(model, Learner.of(model), batch, ADAM, seeded())
    for tasks in (1, 3, 8, 9, 15, 16, 17):
        part = TaskBatch(*(tensor[:tasks] for tensor in batch))
        assert torch.equal(evaluate(model, Learner.of(model), part, ADAM, seeded()), whole[:tasks]), tasks


def test_a_diverging_inner_loop_is_not_averaged_in():
    model, batch = sine_mlp(), SineTasks().sample(30, seeded())
    for lr in (0.3, 1e6):
        said = r"diverged among tasks \d+ to \d+, .* smaller inner learning rate than"
        with pytest.raises(FloatingPointError, match=said):
            evaluate(model, Learner.of(model), batch, InnerLoop("sgd", lr, 5, 10), seeded())


def test_one_diverged_task_among_many_is_noticed():
    """The other tasks of the same part are fine, and so would be the mean of weights over tasks."""
    model = sine_mlp()
    batch = SineTasks().sample(6, seeded())
    batch.support_y[4] *= 1e6
    with pytest.raises(FloatingPointError, match="diverged among tasks 0 to 5"):
        evaluate(model, Learner.of(model), batch, InnerLoop("sgd", 0.02, 1, 10), seeded())


@torch.no_grad()
def test_modes_differ_in_what_shares_a_batch():
    torch.manual_seed(0)
    model = omniglot_cnn(4)
    weights = {name: p.detach().expand(3, *p.shape) for name, p in model.named_parameters()}
    batch = FewShotTasks(easy_images(), 4, 2, 1).sample(3, seeded())
    together = predict(model, weights, batch.support_x, batch.query_x)
    single = predict(model, weights, batch.support_x, batch.query_x, "support + one query")
    assert torch.allclose(together, forward_tasks(model, weights, batch.query_x))
    for task in range(3):
        for query in range(4):
            x = torch.cat([batch.support_x[task], batch.query_x[task, query : query + 1]])
            assert torch.allclose(single[task, query], model(x)[-1], atol=1e-5)
    # The third mode against batch norm with running statistics that are those of the support set.
    support_only = predict(model, weights, batch.support_x, batch.query_x, "support only")
    norms = [layer for layer in model if isinstance(layer, nn.BatchNorm2d)]
    for task in range(3):
        hooks = [layer.register_forward_pre_hook(keep_statistics) for layer in norms]
        model(batch.support_x[task])
        for hook in hooks:
            hook.remove()
        expected = batch.query_x[task]
        for layer in model:
            if layer in norms:
                expected = nn.functional.batch_norm(
                    expected, layer.seen.mean((0, 2, 3)), layer.seen.var((0, 2, 3), correction=0),
                    layer.weight, layer.bias, eps=layer.eps,
                )  # fmt: skip
            else:
                expected = layer(expected)
        assert torch.allclose(support_only[task], expected, atol=1e-4)
    # In the second and third mode other queries must not matter; in the first they do.
    changed = batch.query_x.clone()
    changed[:, 1:] = 1 - changed[:, 1:]
    for mode, output in (("support + one query", single), ("support only", support_only)):
        assert torch.allclose(predict(model, weights, batch.support_x, changed, mode)[:, 0], output[:, 0], atol=1e-5)
    assert not torch.allclose(predict(model, weights, batch.support_x, changed)[:, 0], together[:, 0], atol=1e-3)


def keep_statistics(layer, arguments):
    layer.seen = arguments[0]


def test_all_modes_from_one_adaptation():
    torch.manual_seed(0)
    model, batch = omniglot_cnn(5), FewShotTasks(easy_images(), 5, 2, 3).sample(9, seeded())
    together = evaluate_modes(model, Learner.of(model), batch, ADAM, seeded())
    assert list(together) == list(MODES)
    for mode, scores in together.items():
        assert torch.equal(scores, evaluate(model, Learner.of(model), batch, ADAM, seeded(), mode))


def test_carried_moments_are_where_a_task_starts():
    torch.manual_seed(0)
    model = omniglot_cnn(5)
    fresh = Learner.of(model)
    carried = Learner(fresh.weights, {name: torch.full_like(v, 1e6) for name, v in fresh.second_moment.items()}, 10_000)
    batch = FewShotTasks(easy_images(), 5, 2, 3).sample(10, seeded())
    still = predict(
        model, {n: p.expand(10, *p.shape) for n, p in fresh.weights.items()}, batch.support_x, batch.query_x
    )
    before = accuracy(still.argmax(-1), batch.query_y)
    # huge second moments make Adam's steps tiny: nothing is learned
    assert torch.equal(evaluate(model, carried, batch, ADAM, seeded()), before)
    assert evaluate(model, fresh, batch, ADAM, seeded()).mean() > before.mean() + 0.1


def test_nearest_neighbour_and_accuracy():
    support = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]])
    query = torch.tensor([[[9.0, 1.0], [1.0, 1.0], [2.0, 7.0], [6.0, 1.0]]])
    labels = nearest_neighbour(TaskBatch(support, torch.tensor([[2, 0, 1]]), query, None))
    assert labels.tolist() == [[0, 2, 1, 0]]
    assert accuracy(labels, torch.tensor([[0, 2, 1, 1]])).tolist() == [0.75]


def test_the_interval_covers_the_truth_in_95_percent_of_the_cases():
    hits = 0
    for seed in range(2000):
        mean, half = mean_and_interval((torch.rand(100, generator=seeded(seed)) < 0.8).float())
        hits += abs(mean - 0.8) <= half
    assert 0.925 < hits / 2000 < 0.965


def test_bad_input_is_named():
    model = sine_mlp()
    batch = SineTasks().sample(2, seeded())
    with pytest.raises(
        ValueError, match="mode is 'inductive'; it must be one of 'transductive', 'support \\+ one query'"
    ):
        evaluate(model, Learner.of(model), batch, InnerLoop("sgd", 0.1, 1, 1), seeded(), "inductive")
    for scores in (torch.ones(1), torch.ones(2, 2), torch.ones(0)):
        with pytest.raises(ValueError, match=r"it must be \[tasks\] with at least 2 tasks"):
            mean_and_interval(scores)
    with pytest.raises(ValueError, match="2 of 3 scores are NaN or infinite"):
        mean_and_interval(torch.tensor([1.0, float("nan"), float("inf")]))


@pytest.mark.parametrize("carry_moments", [True, False])
def test_a_path_ends_where_the_inner_loop_ends(carry_moments):
    torch.manual_seed(0)
    model = omniglot_cnn(5).double()
    learner = Learner.of(model)
    learner.second_moment = {name: torch.rand_like(v) for name, v in learner.second_moment.items()}
    learner.adam_steps = 9
    inner = InnerLoop("adam", lr=1e-3, steps=4, batch_size=3, carry_moments=carry_moments)
    x, y = torch.rand(5, 1, 28, 28, dtype=torch.float64), torch.arange(5)
    path = adaptation_path(model, learner, x, y, inner, torch.Generator().manual_seed(1))
    batches = minibatches(1, 5, inner, torch.Generator().manual_seed(1))
    expected = adapt_together(model, learner, x[None], y[None], batches, inner)
    assert len(path) == 5 and path[-1].adam_steps == expected.adam_steps == (13 if carry_moments else 4)
    assert learner.adam_steps == 9 and path[0].weights is learner.weights
    for name, p in expected.weights.items():
        assert torch.allclose(path[-1].weights[name], p[0], rtol=0, atol=1e-9)
        assert not torch.equal(path[1].weights[name], path[2].weights[name])


def test_fewer_ways_leave_out_outputs():
    model = omniglot_cnn(5)
    learner = Learner.of(model)
    learner.adam_steps = 7
    fewer = with_ways(learner, 3)
    assert fewer.adam_steps == 7
    x = torch.rand(1, 4, 1, 28, 28)
    logits = [forward_tasks(model, {name: p[None] for name, p in some.weights.items()}, x) for some in (learner, fewer)]
    assert logits[1].shape == (1, 4, 3) and torch.allclose(logits[0][..., :3], logits[1], atol=1e-6)
    assert [tuple(v.shape) for v in fewer.second_moment.values()] == [tuple(p.shape) for p in fewer.weights.values()]
    assert learner.weights["13.weight"].shape == (5, 256)
    for ways, possible in ((6, "2 to 5"), (1, "a whole number"), (2.5, "a whole number"), (3.0, "a whole number")):
        with pytest.raises(ValueError, match=f"ways is {ways}; it must be {possible}"):
            with_ways(learner, ways)


def test_fewer_ways_of_any_network():
    alone = with_ways(Learner.of(nn.Linear(3, 5)), 2)
    assert [tuple(p.shape) for p in (*alone.weights.values(), *alone.second_moment.values())] == [(2, 3), (2,)] * 2
    similar = nn.Sequential()
    similar.add_module("1", nn.Linear(3, 4)), similar.add_module("11", nn.Linear(4, 5, bias=False))
    assert [tuple(p.shape) for p in with_ways(Learner.of(similar), 2).weights.values()] == [(4, 3), (4,), (2, 4)]
    attention = Learner.of(nn.MultiheadAttention(4, 2))
    with pytest.raises(ValueError, match="the last layer, with out_proj.weight and out_proj.bias, does not"):
        with_ways(replace(attention, weights=attention.weights | {"out_proj.bias": torch.tensor(1.0)}), 2)

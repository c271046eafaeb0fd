"""What must hold for any ways, shots, batch sizes, seeds, dtypes and files: hypothesis looks for the exception.

2,670 cases, the same in every run.
"""

import io
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from reptile_helpers.characters import with_rotations
from reptile_helpers.checkpoint import load_checkpoint, save_checkpoint
from reptile_helpers.drawings import prepare, strokes_of
from reptile_helpers.evaluate import MODES, evaluate, evaluate_modes, mean_and_interval, with_ways
from reptile_helpers.generated import generate_characters
from reptile_helpers.learner import InnerLoop, Learner, minibatches
from reptile_helpers.models import omniglot_cnn, sine_mlp
from reptile_helpers.reptile import adapt_one_by_one, meta_train, outer_gradient, outer_step
from reptile_helpers.stacked import (
    adapt_together,  # fmt: skip
    forward_tasks,
)
from reptile_helpers.tasks import FewShotTasks, SineTasks, TaskBatch
from reptile_helpers.train import use_default_dtype


def cases(count):
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


seeds = st.integers(0, 2**40)
dtypes = st.sampled_from([torch.float32, torch.float64])
some = st.integers(1, 6)
inner_loops = st.builds(
    InnerLoop,
    st.sampled_from(["sgd", "adam"]),
    st.floats(1e-4, 0.02),
    st.integers(1, 5),
    st.integers(1, 9),
    st.booleans(),
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def numbered_images(classes, drawings):
    """Each image carries its class and its drawing in two pixels."""
    images = torch.zeros(classes, drawings, 2, 2, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.arange(classes)[:, None]
    images[:, :, 0, 1] = torch.arange(drawings)
    return images


def origin(x):
    return [tuple(pair) for pair in (x[:, 0, 0] * 255).round().int().tolist()]


def random_learner(model, seed):
    """Weights of the usual size, and moments from somewhere in a run."""
    generator, learner = seeded(seed), Learner.of(model)
    for p in learner.weights.values():
        p += 0.1 * torch.randn(p.shape, generator=generator)
    for v in learner.second_moment.values():
        v += torch.rand(v.shape, generator=generator)
    learner.adam_steps = int(torch.randint(1000, (), generator=generator))
    return learner


def assert_same_bits(a, b):
    assert a.adam_steps == b.adam_steps
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name])
        assert torch.equal(a.second_moment[name], b.second_moment[name])


# --- tasks


@cases(300)
@given(some, some, some, some, st.integers(0, 5), st.integers(0, 5), seeds, dtypes)
def test_tasks_never_leak_and_labels_are_balanced(
    tasks, ways, shots, queries, more_classes, more_drawings, seed, dtype
):
    images = numbered_images(ways + more_classes, shots + queries + more_drawings)
    with use_default_dtype(dtype):
        batch = FewShotTasks(images, ways, shots, queries).sample(tasks, seeded(seed))
        again = FewShotTasks(images, ways, shots, queries).sample(tasks, seeded(seed))
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    assert batch.support_x.dtype == batch.query_x.dtype == dtype
    for support_x, support_y, query_x, query_y in zip(*batch, strict=True):
        support, query = origin(support_x), origin(query_x)
        assert len({*support, *query}) == ways * (shots + queries), "a drawing occurs twice"
        class_of = dict(zip(support_y.tolist(), (c for c, _ in support), strict=True))
        assert len(set(class_of.values())) == ways, "a class has two labels"
        labelled = [*zip(support_y.tolist(), support, strict=True), *zip(query_y.tolist(), query, strict=True)]
        assert all(class_of[label] == c for label, (c, _) in labelled), "a label has two classes"
        assert support_y.bincount().tolist() == [shots] * ways and query_y.bincount().tolist() == [queries] * ways


@cases(150)
@given(some, st.integers(1, 20), st.integers(3, 60), seeds, dtypes)
def test_waves_are_waves(tasks, shots, queries, seed, dtype):
    """Support and query set lie on one a · sin(x + b), with a and b in the paper's range and x in [−5, 5]."""
    with use_default_dtype(dtype):
        batch = SineTasks(shots, queries).sample(tasks, seeded(seed))
    assert batch.query_y.dtype == dtype and batch.support_x.abs().max() <= 5
    assert torch.allclose(batch.query_x, torch.linspace(-5, 5, queries, dtype=dtype)[:, None], atol=1e-5)
    x, y = (torch.cat(pair, 1)[..., 0].double() for pair in (batch[::2], batch[1::2]))
    basis = torch.stack([x.sin(), x.cos()], -1)
    solution = torch.linalg.lstsq(basis, y[..., None]).solution
    assert torch.allclose(basis @ solution, y[..., None], atol=1e-3)
    amplitude = solution.norm(dim=1)
    assert amplitude.min() >= 0.0999 and amplitude.max() <= 5.001


@cases(200)
@given(some, st.integers(1, 30), st.integers(1, 12), st.integers(1, 12), seeds)
def test_minibatches_pass_over_all_examples_in_turn(tasks, examples, steps, batch_size, seed):
    """Laid end to end, every `examples` indices are a permutation, as far as they go; and tasks differ."""
    order = minibatches(tasks, examples, InnerLoop("sgd", 0.1, steps, batch_size), seeded(seed))
    assert order.shape == (tasks, steps, batch_size)
    for task in order.flatten(1):
        for part in task.split(examples):
            assert len(part.unique()) == len(part) and 0 <= part.min() and part.max() < examples
    if tasks > 1 and examples > 20 and steps * batch_size > 15:
        assert not torch.equal(order[0], order[1])
    fewer = minibatches(1, examples, InnerLoop("sgd", 0.1, steps, batch_size), seeded(seed))
    assert torch.equal(fewer[0], order[0])


# --- loops


@cases(150)
@given(inner_loops, some, st.integers(1, 12), seeds)
def test_all_tasks_at_once_are_the_tasks_one_by_one(inner, tasks, shots, seed):
    with use_default_dtype(torch.float64):
        torch.manual_seed(seed)
        model = sine_mlp()
        learner = random_learner(model, seed)
        x, y, _, _ = SineTasks(shots=shots).sample(tasks, seeded(seed))
        batches = minibatches(tasks, shots, inner, seeded(seed))
        together = adapt_together(model, learner, x, y, batches, inner)
        alone = adapt_one_by_one(model, learner, x, y, batches, inner)
    assert together.adam_steps == alone.adam_steps
    for name, p in alone.weights.items():
        assert torch.allclose(p, together.weights[name], rtol=0, atol=1e-9)
        assert torch.allclose(alone.second_moment[name], together.second_moment[name], rtol=1e-9, atol=1e-12)


@cases(60)
@given(inner_loops, st.integers(1, 5), seeds)
def test_an_inner_loop_can_be_cut_anywhere(inner, more, seed):
    """First some steps, then `more` from where they ended, moments and step count included: as if in one go."""
    inner = replace(inner, carry_moments=True)
    with use_default_dtype(torch.float64):
        torch.manual_seed(seed)
        model = sine_mlp()
        x, y, _, _ = SineTasks().sample(1, seeded(seed))
        whole = replace(inner, steps=inner.steps + more)
        batches = minibatches(1, 10, whole, seeded(seed))
        learner = random_learner(model, seed)
        expected = adapt_together(model, learner, x, y, batches, whole)
        for part, steps in ((batches[:, : inner.steps], inner.steps), (batches[:, inner.steps :], more)):
            adapted = adapt_together(model, learner, x, y, part, replace(inner, steps=steps))
            weights, moments = ({n: t[0] for n, t in d.items()} for d in (adapted.weights, adapted.second_moment))
            learner = Learner(weights, moments, adapted.adam_steps)
    assert learner.adam_steps == expected.adam_steps
    for name, p in learner.weights.items():
        assert torch.allclose(p, expected.weights[name][0], rtol=0, atol=1e-12)


@cases(60)
@given(inner_loops, st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), seeds)
def test_all_tasks_at_once_are_the_tasks_one_by_one_with_images(inner, tasks, ways, shots, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, ways)
    ).double()
    x = torch.rand(tasks, ways * shots, 1, 8, 8, generator=seeded(seed)).double()
    y = torch.arange(ways).repeat_interleave(shots).expand(tasks, -1)
    batches = minibatches(tasks, ways * shots, inner, seeded(seed))
    learner = random_learner(model, seed)
    together, alone = (adapt(model, learner, x, y, batches, inner) for adapt in (adapt_together, adapt_one_by_one))
    for name, p in alone.weights.items():
        assert torch.allclose(p, together.weights[name], rtol=0, atol=1e-9)


@cases(100)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), seeds)
def test_forward_of_many_weights_is_each_forward(tasks, examples, ways, seed):
    torch.manual_seed(seed)
    model = omniglot_cnn(ways).double()
    weights = {name: torch.randn(tasks, *p.shape, dtype=p.dtype) / 5 for name, p in model.named_parameters()}
    x = torch.rand(tasks, examples + 1, 1, 28, 28, dtype=torch.float64)
    outputs = forward_tasks(model, weights, x)
    for task in range(tasks):
        expected = torch.func.functional_call(model, {name: p[task] for name, p in weights.items()}, x[task])
        assert torch.allclose(outputs[task], expected, rtol=1e-9, atol=1e-9)


tensors = st.tuples(some, st.integers(1, 4), st.integers(1, 4))


@cases(200)
@given(tensors, st.floats(0, 1, exclude_min=True), seeds)
def test_the_outer_step_moves_phi_a_fraction_of_the_way(shape, epsilon, seed):
    tasks, *rest = shape
    generator = seeded(seed)
    phi, theta = ({"w": torch.randn(s, generator=generator, dtype=torch.float64)} for s in (rest, shape))
    moved, shuffled, graded = ({"w": phi["w"].clone()} for _ in range(3))
    outer_step(moved, theta, epsilon)
    assert torch.allclose(moved["w"], (1 - epsilon) * phi["w"] + epsilon * theta["w"].mean(0), rtol=0, atol=1e-12)
    outer_step(shuffled, {"w": theta["w"][torch.randperm(tasks, generator=generator)]}, epsilon)
    assert torch.allclose(moved["w"], shuffled["w"], rtol=0, atol=1e-12), "the order of the tasks matters"
    outer_gradient(graded, theta)
    assert torch.allclose(graded["w"] - epsilon * graded["w"].grad, moved["w"], rtol=0, atol=1e-12)
    outer_step(phi, theta, 1)
    assert torch.allclose(phi["w"], theta["w"].mean(0), rtol=0, atol=1e-12)


@cases(60)
@given(inner_loops, st.integers(2, 12), st.data(), some, seeds)
def test_a_run_goes_on_from_any_meta_iteration(inner, iterations, data, meta_batch, seed):
    """Stopped after any meta-iteration, saved, loaded, and gone on with: the same bits as without."""
    cut, file = data.draw(st.integers(1, iterations - 1)), io.BytesIO()
    torch.manual_seed(seed)
    model, generator = sine_mlp(), seeded(seed)

    def keep(iteration, learner):
        if iteration == cut:
            torch.save((learner.weights, learner.second_moment, learner.adam_steps, generator.get_state()), file)

    def run(learner, **options):
        return meta_train(
            model, learner, SineTasks(), inner, meta_iterations=iterations, meta_batch=meta_batch, generator=generator,
            **options,
        )  # fmt: skip

    whole = run(Learner.of(model), callback=keep)
    file.seek(0)
    *learner, state = torch.load(file)
    generator.set_state(state)
    assert_same_bits(run(Learner(*learner), start=cut), whole)


# --- evaluation


@cases(120)
@given(inner_loops, st.integers(1, 20), st.integers(1, 20), st.integers(1, 10), seeds)
def test_a_score_does_not_depend_on_the_tasks_after_it(inner, tasks, kept, shots, seed):
    assume(kept <= tasks)
    torch.manual_seed(seed)
    model = sine_mlp()
    learner, batch = random_learner(model, seed), SineTasks(shots, 5).sample(tasks, seeded(seed))
    whole = evaluate(model, learner, batch, inner, seeded(seed))
    part = evaluate(model, learner, TaskBatch(*(t[:kept] for t in batch)), inner, seeded(seed))
    assert torch.equal(whole[:kept], part)
    # Other waves in the first places, and the last one is the same, but for the rounding.
    changed = TaskBatch(*(torch.cat([1 - t[: tasks - 1], t[tasks - 1 :]]) for t in batch))
    assert torch.allclose(evaluate(model, learner, changed, inner, seeded(seed))[-1], whole[-1], rtol=1e-3, atol=1e-6)


@cases(40)
@given(st.integers(1, 10), st.integers(2, 4), st.integers(1, 3), st.integers(1, 3), seeds, dtypes)
def test_accuracies_are_shares_of_the_queries_in_every_mode(tasks, ways, shots, queries, seed, dtype):
    """And where the labels of the queries are rotated, no query is right both times."""
    with use_default_dtype(dtype):
        torch.manual_seed(seed)
        model = omniglot_cnn(ways)
        images = torch.randint(256, (5, 6, 28, 28), generator=seeded(seed), dtype=torch.uint8)
        batch = FewShotTasks(images, ways, shots, queries).sample(tasks, seeded(seed))
        inner = InnerLoop("adam", 0.001, 2, 3)
        scores = evaluate_modes(model, Learner.of(model), batch, inner, seeded(seed))
        other = batch._replace(query_y=(batch.query_y + 1) % ways)
        others = evaluate_modes(model, Learner.of(model), other, inner, seeded(seed))
    for mode in MODES:
        right = scores[mode] * ways * queries
        assert scores[mode].shape == (tasks,) and torch.allclose(right, right.round(), atol=1e-4)
        assert (scores[mode] + others[mode]).max() <= 1 + 1e-6


@cases(200)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_mean_and_interval_are_their_formulas(values):
    mean, half = mean_and_interval(torch.tensor(values, dtype=torch.float64))
    expected = math.fsum(values) / len(values)
    variance = math.fsum((value - expected) ** 2 for value in values) / (len(values) - 1)
    assert math.isclose(mean, expected, rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(half, 1.96 * math.sqrt(variance / len(values)), rel_tol=1e-6, abs_tol=1e-5)


@pytest.mark.parametrize("truth", [0.2, 0.8, 0.97])
@pytest.mark.parametrize("queries", [1, 5])
def test_the_interval_covers_the_truth_as_often_as_it_says(truth, queries):
    """4,000 experiments of 400 tasks: binomial scores, of tasks that are not all equally hard. 95 % ± 1 point.

    The standard error of the share is 0.34 points; the normal approximation costs some tenths near 97 %.
    """
    spread = min(truth, 1 - truth)
    share = truth + spread * (2 * torch.rand(4000, 400, generator=seeded(1)) - 1)
    scores = (torch.rand(queries, 4000, 400, generator=seeded(2)) < share).float().mean(0)
    covered = sum(abs(mean - truth) <= half for mean, half in map(mean_and_interval, scores)) / 4000
    assert 0.94 < covered < 0.96, covered


# --- checkpoints


names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True)
shapes = st.lists(st.integers(0, 4), max_size=3)
all_dtypes = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])


def a_state(names, shapes, dtype, seed):
    generator = seeded(seed)
    draw = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    phi = dict(zip(names, draw, strict=False))
    return {
        "phi": phi, "second_moment": {name: p.square() for name, p in phi.items()}, "adam_steps": seed,
        "train_classes": torch.arange(seed % 9), "test_classes": torch.arange(2), "configuration": {"seed": seed},
        "iteration": seed % 1000, "generator": generator.get_state(), "curve": [(seed, 0.5, float(seed))],
        "seconds": 0.1,
    }  # fmt: skip


def same_value(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_value(a[key], b[key]) for key in a)
    return a == b


@cases(200)
@given(names, st.lists(shapes, min_size=4, max_size=4), all_dtypes, seeds)
def test_what_is_saved_is_loaded(tmp_path, names, shapes, dtype, seed):
    state, path = a_state(names, shapes, dtype, seed), tmp_path / "checkpoint.pt"
    save_checkpoint(path, state)
    assert same_value(load_checkpoint(path), state)


@cases(500)
@given(st.data())
def test_any_damage_is_found_or_does_no_harm(tmp_path, data):
    """Cut anywhere, any byte changed, bytes put in anywhere: an error that says so, or exactly what was saved."""
    state, path = a_state(["w", "b"], [(2, 3), (2,)], torch.float32, 7), tmp_path / "checkpoint.pt"
    save_checkpoint(path, state)
    good = path.read_bytes()
    place, kind = data.draw(st.integers(0, len(good) - 1)), data.draw(st.sampled_from(["cut", "change", "insert"]))
    other = data.draw(st.binary(min_size=1, max_size=20))
    bad = {
        "cut": good[:place],
        "change": good[:place] + other + good[place + len(other) :],
        "insert": good[:place] + other + good[place:],
    }[kind]
    path.write_bytes(bad)
    try:
        loaded = load_checkpoint(path)
    except ValueError as error:
        assert "checkpoint.pt is" in str(error)
    else:
        assert same_value(loaded, state)


# --- characters and drawings


@cases(60)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), seeds)
def test_four_quarter_turns_are_none(classes, drawings, size, seed):
    images = torch.randint(256, (classes, drawings, size, size), generator=seeded(seed), dtype=torch.uint8)
    turned = with_rotations(images).unflatten(0, (4, classes))
    assert torch.equal(turned[0], images)
    for quarter in range(4):
        assert torch.equal(with_rotations(turned[quarter])[classes : 2 * classes], turned[(quarter + 1) % 4])


@cases(60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 2), st.integers(0, 1000))
def test_generated_classes_depend_on_their_number_only(few, many, drawings, seed):
    few, many = sorted((few, many))
    images = generate_characters(many, drawings, seed)
    assert torch.equal(generate_characters(few, drawings, seed), images[:few])
    assert set(images.unique().tolist()) == {0, 255}


unit = st.floats(0, 1, width=32)
strokes = st.lists(st.lists(st.tuples(unit, unit), max_size=6), max_size=4)


@cases(150)
@given(strokes)
def test_any_drawing_becomes_an_image_and_can_be_drawn_again(drawing):
    image = prepare(drawing)
    assert image.shape == (28, 28) and set(image.unique().tolist()) <= {0.0, 1.0}
    assert bool((image == 0).any()) == any(drawing), "ink vanished, or came from nowhere"
    again = strokes_of(image)
    assert bool(again) == any(drawing) and prepare(again).shape == (28, 28)


@cases(60)
@given(st.integers(2, 8), st.data(), seeds)
def test_fewer_ways_are_the_first_outputs(ways, data, seed):
    fewer = data.draw(st.integers(2, ways))
    torch.manual_seed(seed)
    model = omniglot_cnn(ways)
    learner, x = random_learner(model, seed), torch.rand(1, 3, 1, 28, 28)
    logits = [
        forward_tasks(model, {name: p[None] for name, p in some.weights.items()}, x)
        for some in (learner, with_ways(learner, fewer))
    ]
    assert torch.allclose(logits[0][..., :fewer], logits[1], atol=1e-5)

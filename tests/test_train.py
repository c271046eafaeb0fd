"""Long runs: the recipe, resuming bit for bit after any death, and what is refused."""

import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reptile_helpers import interrupts, measure, reptile, run, stacked
from reptile_helpers.checkpoint import (
    learner_for_test,
    learner_of,
    load_checkpoint,
    load_pretrained,
    save_checkpoint,
    settings_of,
)
from reptile_helpers.evaluate import MODES
from reptile_helpers.learner import InnerLoop, Learner
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.settings import PAPER_5WAY, PAPER_20WAY, SINE_EXAMPLE, RunSettings
from reptile_helpers.stacked import adapt_together
from reptile_helpers.train import main, train


def sine(**changes):
    return replace(SINE_EXAMPLE, **changes)


def test_the_papers_recipe():
    five, twenty = PAPER_5WAY, PAPER_20WAY
    assert (five.iterations, twenty.iterations) == (100_000, 200_000)
    assert (five.lr, five.inner_batch, five.inner_steps, five.test_batch) == (1e-3, 10, 5, 5)
    assert (twenty.lr, twenty.inner_batch, twenty.inner_steps, twenty.test_batch) == (5e-4, 20, 10, 10)
    for recipe in (five, twenty):
        assert (recipe.shots, recipe.meta_batch, recipe.epsilon, recipe.test_steps) == (10, 5, 1.0, 50)
        assert recipe.inner == InnerLoop("adam", recipe.lr, recipe.inner_steps, recipe.inner_batch)
        assert recipe.test_inner == InnerLoop("adam", recipe.lr, 50, recipe.test_batch)
    assert SINE_EXAMPLE.shots == 50 and SINE_EXAMPLE.inner == InnerLoop("sgd", 0.02, 5, 10)


@pytest.mark.parametrize(
    "recipe, changes, message",
    [
        (SINE_EXAMPLE, {"data": "mnist"}, "data is 'mnist'; it must be one of 'omniglot', 'generated', 'sine'"),
        (PAPER_5WAY, {"ways": None}, "ways is None; it must be a whole number of at least 2"),
        (PAPER_5WAY, {"ways": 1}, "ways is 1"),
        (SINE_EXAMPLE, {"ways": 5}, "ways is 5; it must be None for sine waves"),
        (SINE_EXAMPLE, {"seed": -1}, "seed is -1; it must be a whole number of at least 0"),
        (SINE_EXAMPLE, {"lr": "0.1"}, "lr is '0.1'; it must be a positive number"),
        (SINE_EXAMPLE, {"test_steps": 0}, "test_steps is 0"),
        (SINE_EXAMPLE, {"shots": 0}, "shots is 0"),
        (PAPER_5WAY, {"shots": 20}, "shots is 20; it must be less than 20, the drawings of a character"),
        (SINE_EXAMPLE, {"seed": 2**64}, "seed is 18446744073709551616; it must be less than"),
        (SINE_EXAMPLE, {"meta_batch": 2.5}, "meta_batch is 2.5"),
        (SINE_EXAMPLE, {"epsilon": float("nan")}, "epsilon is nan"),
        (SINE_EXAMPLE, {"epsilon": 1.5}, "epsilon is 1.5; it must be a positive number of at most 1"),
        (SINE_EXAMPLE, {"optimizer": "adamw"}, "optimizer is 'adamw'"),
    ],
)
def test_wrong_settings_are_named(recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(recipe, **changes)


def test_settings_survive_a_checkpoint_and_numpy():
    assert RunSettings.from_dict(PAPER_5WAY.to_dict()) == PAPER_5WAY
    for name in ("omniglot_5way", "omniglot_20way"):  # made before there was a RunSettings
        assert settings_of(load_pretrained(name)) == (PAPER_5WAY if "_5" in name else PAPER_20WAY)
    from_numpy = replace(PAPER_5WAY, seed=np.int64(3), lr=np.float32(0.5)).to_dict()
    assert (type(from_numpy["seed"]), type(from_numpy["lr"])) == (int, float)
    assert type(replace(SINE_EXAMPLE, epsilon=Fraction(1, 10)).to_dict()["epsilon"]) is float
    with pytest.raises(ValueError, match=r"another version of reptile_helpers \(unknown: speed; missing: lr\)"):
        RunSettings.from_dict({name: v for name, v in PAPER_5WAY.to_dict().items() if name != "lr"} | {"speed": 1})


def visible(folder):
    """The files in a run's folder, without its hidden lock."""
    return [name for name in os.listdir(folder) if name != ".lock"]


def same(a, b):
    return a["adam_steps"] == b["adam_steps"] and all(
        torch.equal(a[part][n], b[part][n]) for part in ("phi", "second_moment") for n in a["phi"]
    )


COMMAND = ["--data", "sine", "--iterations", "600", "--checkpoint-seconds", "0", "--test-tasks", "0", "--device", "cpu"]


def start(folder):
    command = [sys.executable, "-m", "reptile_helpers.train", *COMMAND, "--run-dir", str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_at_random_moments_and_started_again(tmp_path):
    """With a checkpoint after every meta-iteration, kills hit its writing, too."""
    main([*COMMAND, "--run-dir", str(tmp_path / "undisturbed")])
    path, chance = tmp_path / "killed" / "checkpoint.pt", random.Random(0)
    reached = []
    for _ in range(5):
        before = modified(path)
        process = start(path.parent)
        while modified(path) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
        reached.append(load_checkpoint(path)["iteration"])
    assert 0 < reached[0] < reached[-1] < 600 and reached == sorted(reached)
    assert start(path.parent).wait() == 0
    undisturbed, killed = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("undisturbed", "killed"))
    assert killed["iteration"] == 600 and killed["curve"] == undisturbed["curve"] and len(killed["curve"]) == 6
    assert same(undisturbed, killed)
    assert visible(path.parent) == ["checkpoint.pt"]


def test_stopped_by_ctrl_c_and_started_again(tmp_path, monkeypatch):
    """SIGINT in the middle of a meta-iteration: it is finished and saved, and the rest is as if nothing had been."""
    settings = sine(optimizer="adam", lr=0.003, iterations=60)  # so that there are moments to keep
    undisturbed = train(settings, tmp_path / "undisturbed")

    def interrupted(*arguments):
        interrupted.calls += 1
        if interrupted.calls == 20:
            signal.raise_signal(signal.SIGINT)
        return sample(*arguments)

    interrupted.calls = 0
    sample = measure.SineTasks.sample
    monkeypatch.setattr(measure.SineTasks, "sample", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped after 19 meta-iterations; the same command continues"):
        train(settings, tmp_path / "stopped", checkpoint_seconds=1e9)
    assert signal.getsignal(signal.SIGINT) is handler, "Ctrl-C must work again as before"
    assert load_checkpoint(tmp_path / "stopped" / "checkpoint.pt")["iteration"] == 19
    assert same(train(settings, tmp_path / "stopped"), undisturbed)


def test_numbers_that_go_wrong_stop_the_run_and_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch):
    """Bad data in the twelfth meta-iteration: the checkpoint is that of the eleventh, and a run goes on from there."""
    settings = sine(optimizer="adam", lr=0.003, iterations=30)
    undisturbed = train(settings, tmp_path / "undisturbed")
    sample, calls = measure.SineTasks.sample, []

    def bad(*arguments):
        batch = sample(*arguments)
        calls.append(1)
        return batch._replace(support_y=batch.support_y * torch.inf) if len(calls) == 13 else batch

    monkeypatch.setattr(measure.SineTasks, "sample", bad)  # the first call is for the watched tasks
    path = tmp_path / "stopped" / "checkpoint.pt"
    said = rf"meta-iteration 12: an inner .* than 0.003.* state after meta-iteration 11 is in {path}"
    with pytest.raises(FloatingPointError, match=said):
        train(settings, path.parent, checkpoint_seconds=1e9)
    assert load_checkpoint(path)["iteration"] == 11
    monkeypatch.undo()
    assert same(train(settings, path.parent), undisturbed)


def test_the_command_says_what_to_change_and_the_folder_stays_free(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*COMMAND, "--lr", "30", "--run-dir", str(tmp_path)])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and "meta-iteration 1: an inner loop diverged." in said
    assert "Use a smaller inner learning rate than 30" in said and not visible(tmp_path)
    main([*COMMAND, "--iterations", "5", "--run-dir", str(tmp_path)])
    assert visible(tmp_path) == ["checkpoint.pt"]


def test_float64(tmp_path):
    arguments = ["--data", "sine", "--iterations", "5", "--test-tasks", "2", "--device", "cpu"]
    main([*arguments, "--dtype", "float64", "--run-dir", str(tmp_path)])
    assert {p.dtype for p in load_checkpoint(tmp_path / "checkpoint.pt")["phi"].values()} == {torch.float64}
    assert json.loads((tmp_path / "results.json").read_text())["meta-training"]["dtype"] == "float64"
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(ValueError, match="holds weights of another network or dtype"):
        train(sine(iterations=5), tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (["--test-tasks", "1"], "--test-tasks is 1; it must be 0, or at least 2"),
        (["--device", "nonsense"], "PyTorch cannot use 'nonsense' here"),
        (["--iterations", "0"], "iterations is 0"),
        (["--lr", "-1"], "lr is -1.0; it must be a positive number"),
        (["--checkpoint-seconds", "nan"], "nan is not possible; it must be a finite number of seconds"),
        (["--checkpoint-seconds", "-1"], "-1 is not possible; it must be a finite number"),
        (["--device", "meta"], "PyTorch cannot use 'meta' here"),
        (["--data", "omniglot"], "with --data omniglot, --ways 5 or --ways 20 is required"),
        (["--ways", "5"], "with --data sine, --ways must be left out"),
        (["--dtype", "float16"], "invalid choice: 'float16'"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_done(change, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*COMMAND, *change, "--run-dir", str(tmp_path / "run")])
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_another_run_is_not_overwritten(tmp_path):
    train(sine(iterations=5), tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=r"belongs to another run: epsilon 0.1 \(now 0.5\), iterations 5 \(now 6\)"):
        train(sine(iterations=6, epsilon=0.5), tmp_path)
    with pytest.raises(SystemExit):
        main(["--data", "sine", "--iterations", "5", "--seed", "1", "--run-dir", str(tmp_path)])
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    (tmp_path / "checkpoint.pt").write_bytes(before[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        train(sine(iterations=5), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before[:-100]


def test_a_finished_run_is_tested_and_not_trained_again(tmp_path, capsys):
    command = [*COMMAND[:2], "--iterations", "30", "--test-tasks", "20", "--run-dir", str(tmp_path), "--device", "cpu"]
    main(command)
    first = (tmp_path / "checkpoint.pt").read_bytes()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["configuration"] == sine(iterations=30).to_dict()
    assert set(results["test"]["results"]["10-shot"]) == set(MODES)
    main(command)
    assert (tmp_path / "checkpoint.pt").read_bytes() == first
    assert json.loads((tmp_path / "results.json").read_text())["test"] == results["test"]


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path, monkeypatch):
    settings, attempts = sine(iterations=30), []
    undisturbed = train(settings, tmp_path / "undisturbed")

    def save(path, state):
        attempts.append(state["iteration"])
        if state["iteration"] in full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save_checkpoint(path, state)

    monkeypatch.setattr(run, "save_checkpoint", save)
    full = range(10, 20)
    with pytest.warns(UserWarning, match="No space left on device.*Training goes on; the next attempt is in 0 s"):
        assert same(train(settings, tmp_path / "full", checkpoint_seconds=0), undisturbed)
    assert attempts == list(range(1, 31))
    full = range(10, 31)
    with warnings.catch_warnings(record=True) as seen, pytest.raises(OSError, match="No space left on device"):
        warnings.simplefilter("default")  # Python's own filter, which shows the same text only once
        train(settings, tmp_path / "full for a while longer", checkpoint_seconds=0)
    assert [str(warning.message).split(":")[0] for warning in seen] == [f"meta-iteration {n}" for n in range(10, 30)]
    with pytest.warns(UserWarning), pytest.raises(OSError, match="No space left on device"):
        train(settings, tmp_path / "full to the end", checkpoint_seconds=0)
    assert load_checkpoint(tmp_path / "full to the end" / "checkpoint.pt")["iteration"] == 9
    full = ()
    assert same(train(settings, tmp_path / "full to the end"), undisturbed)


def test_a_checkpoint_of_another_network_in_its_place(tmp_path):
    settings = sine(iterations=5)
    state, other = train(settings, tmp_path), Learner.of(omniglot_cnn(5))
    save_checkpoint(tmp_path / "checkpoint.pt", state | {"phi": other.weights, "second_moment": other.second_moment})
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="holds weights of another network or dtype"):
        train(settings, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_another_kind_of_device_in_its_place(tmp_path):
    settings = sine(iterations=5)
    save_checkpoint(tmp_path / "checkpoint.pt", train(settings, tmp_path) | {"generator": torch.zeros(16).byte()})
    with pytest.raises(ValueError, match="on a different kind of device than cpu; it can only continue there"):
        train(settings, tmp_path)


def test_the_test_takes_the_steps_of_losses_that_are_added_up(monkeypatch):
    """As in the authors' code: there, moments are of sums over ten images, and the test's gradients sums over 5."""
    state = load_pretrained("omniglot_5way")
    inner = settings_of(state).test_inner
    x = torch.rand(2, 5, 1, 28, 28, generator=torch.Generator().manual_seed(0)).double()
    y, batches = torch.arange(5).repeat(2, 1), torch.arange(5).expand(2, 50, 5)
    ours = learner_for_test(state)
    theirs = learner_of(state)
    theirs.second_moment = {name: 10**2 * v for name, v in theirs.second_moment.items()}
    for learner in (ours, theirs):
        learner.weights, learner.second_moment = (
            {name: t.double() for name, t in d.items()} for d in (learner.weights, learner.second_moment)
        )
    model = omniglot_cnn(5).double()
    expected = adapt_together(model, ours, x, y, batches, inner).weights
    monkeypatch.setattr(stacked, "task_loss", lambda output, y: 5 * F.cross_entropy(output, y))
    weights = adapt_together(model, theirs, x, y, batches, inner).weights
    name = list(weights)[-2]  # the last layer
    moved = (expected[name] - ours.weights[name]).abs().max()
    assert (weights[name] - expected[name]).abs().max() < 1e-3 * moved


def test_a_slow_disk_leaves_time_to_train(tmp_path, monkeypatch):
    """A meta-iteration takes one second, a checkpoint ten, and there shall be five seconds between checkpoints."""
    clock, saved = [0.0], []

    def adapt(*arguments):
        clock[0] += 1
        return adapt_together(*arguments)

    def save(path, state):
        clock[0] += 10
        saved.append(state["iteration"])
        save_checkpoint(path, state)

    monkeypatch.setattr(run.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(run, "adapt_together", adapt)
    monkeypatch.setattr(run, "save_checkpoint", save)
    train(sine(iterations=20), tmp_path, checkpoint_seconds=5)
    assert saved == [5, 10, 15, 20]


@pytest.mark.foreign_names
def test_a_folder_with_spaces_and_other_letters(tmp_path):
    settings, folder = sine(iterations=5), tmp_path / "Läufe von heute 実験 ✍"
    state = train(settings, folder)
    assert same(train(settings, folder), state) and visible(folder) == ["checkpoint.pt"]


def test_omniglot_that_is_not_there_is_not_replaced(tmp_path, monkeypatch):
    def load_nothing(allow_generated):
        assert not allow_generated
        raise FileNotFoundError("there is no Omniglot")

    monkeypatch.setattr(measure, "load_characters", load_nothing)
    with pytest.raises(FileNotFoundError, match="there is no Omniglot"):
        train(PAPER_5WAY, tmp_path)
    assert not visible(tmp_path)


def test_characters(tmp_path):
    settings = replace(PAPER_5WAY, data="generated", iterations=2, meta_batch=1, inner_steps=2, inner_batch=5)
    state = train(settings, tmp_path)
    assert state["adam_steps"] == 4 and [point[0] for point in state["curve"]] == [2]
    assert len(state["train_classes"]) == 1200 and len(state["test_classes"]) == 423
    results = measure.measure(state | {"configuration": replace(settings, test_steps=2).to_dict()}, 10)
    assert set(results) == {"1-shot", "5-shot"}
    assert all(0 <= mean <= 1 for modes in results.values() for mean, _ in modes.values())


# What a run trains on and is tested on: the code behind the published numbers.


def generated_run(tmp_path, **changes):
    short = {"iterations": 1, "meta_batch": 1, "inner_steps": 1, "inner_batch": 5}
    return run.open_run(replace(PAPER_5WAY, data="generated", **short | changes), tmp_path)


def classes_of(images, characters):
    """The class numbers of images, [classes, drawings, 28, 28], by their first drawing."""
    numbers = {characters.images[n, 0].numpy().tobytes(): n for n in range(len(characters.images))}
    return [numbers.get(image.numpy().tobytes()) for image in images[:, 0]]


def test_a_run_trains_on_its_training_characters_and_their_rotations_only(tmp_path):
    opened = generated_run(tmp_path)
    tasks = measure.make_training_tasks(opened.settings, opened.characters, opened.state, "cpu")
    train_classes = opened.state["train_classes"]
    assert (tasks.ways, tasks.shots, len(tasks.images)) == (5, 10, 4 * 1200)
    for turns in range(4):
        turned_back = tasks.images[1200 * turns : 1200 * (turns + 1)].rot90(-turns, (2, 3))
        assert torch.equal(turned_back, opened.characters.images[train_classes]), f"{90 * turns} degrees"


@pytest.mark.parametrize("shots", [1, 5])
def test_a_run_is_tested_on_its_test_characters_only(tmp_path, shots):
    opened = generated_run(tmp_path)
    batch = measure.sample_test_tasks(opened.state, opened.characters, shots, 20, torch.Generator().manual_seed(0))
    assert batch.support_x.shape == (20, 5 * shots, 1, 28, 28) and batch.query_x.shape == (20, 5, 1, 28, 28)
    assert consists_of(batch, opened.characters.images[opened.state["test_classes"]])


def consists_of(batch, images):
    """Does a TaskBatch consist of these images, [classes, drawings, 28, 28], and no others?"""
    known = {image.numpy().tobytes() for image in images.flatten(0, 1)}
    sampled = torch.cat([batch.support_x, batch.query_x], 1).flatten(0, 2).mul(255).byte()
    return all(image.numpy().tobytes() in known for image in sampled)


def test_the_learning_curve_is_of_test_characters_and_the_inner_loop_of_meta_training(tmp_path, monkeypatch):
    settings, seen = replace(PAPER_5WAY, data="generated", iterations=1, meta_batch=1, inner_steps=1, seed=3), []

    def watch(model, learner, batch, inner, generator, progress):
        seen.append((learner.weights["0.weight"].clone(), batch, inner))
        return torch.linspace(0, 1, len(batch.support_x))

    monkeypatch.setattr(run, "evaluate", watch)
    state = train(settings, tmp_path)
    ((weight, batch, inner),) = seen
    assert inner == settings.inner and batch.support_x.shape == (200, 5, 1, 28, 28)
    assert consists_of(batch, measure.generated_characters().images[state["test_classes"]])
    assert torch.equal(weight, state["phi"]["0.weight"]), "the point is that of another moment"
    assert [(n, round(mean, 3)) for n, mean, _ in state["curve"]] == [(1, 0.5)]


def test_a_curve_that_diverges_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    """The weights in it belong to the meta-iteration that it names, so that the run goes on to the same bits."""
    settings = replace(SINE_EXAMPLE, iterations=300)
    whole, evaluate = train(settings, tmp_path / "whole"), run.evaluate
    points = itertools.count(1)

    def diverge_at_the_second(*arguments, **options):
        if next(points) == 2:
            raise FloatingPointError("an inner loop diverged.")
        return evaluate(*arguments, **options)

    monkeypatch.setattr(run, "evaluate", diverge_at_the_second)
    with pytest.raises(FloatingPointError, match="The state after meta-iteration 200 is in"):
        train(settings, tmp_path / "stopped")
    assert load_checkpoint(tmp_path / "stopped" / "checkpoint.pt")["iteration"] == 200
    gone_on = train(settings, tmp_path / "stopped")
    assert same(whole, gone_on) and torch.equal(whole["generator"], gone_on["generator"])
    assert [point[0] for point in gone_on["curve"]] == [100, 300]


def test_curve_and_seconds_of_a_stopped_run_go_on(tmp_path, monkeypatch):
    clock = [0.0]

    def adapt(*arguments):
        clock[0] += 1
        if clock[0] == 150:
            signal.raise_signal(signal.SIGINT)
        return adapt_together(*arguments)

    monkeypatch.setattr(run.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(run, "adapt_together", adapt)
    settings = sine(iterations=201, inner_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["seconds"] == 150
    state = train(settings, tmp_path)
    assert state["seconds"] == 201 and [point[0] for point in state["curve"]] == [100, 200, 201]


def test_the_outer_step_size_is_that_of_the_settings_and_annealed(tmp_path, monkeypatch):
    sizes, outer_step = [], reptile.outer_step
    monkeypatch.setattr(reptile, "outer_step", lambda *step: sizes.append(step[2]) or outer_step(*step))
    train(sine(iterations=4, epsilon=0.8), tmp_path)
    assert sizes == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_the_test_uses_its_own_inner_loop_shots_and_scaled_moments(tmp_path, monkeypatch):
    opened, calls = generated_run(tmp_path, test_steps=2, test_batch=3), []

    def watch(model, learner, batch, inner, generator):
        calls.append((learner, batch, inner))
        return {mode: torch.zeros(len(batch.support_x)) for mode in MODES}

    monkeypatch.setattr(measure, "evaluate_modes", watch)
    monkeypatch.setattr(measure, "TASKS_AT_ONCE", 4)
    state = opened.state | {"second_moment": {name: p.abs() for name, p in opened.state["phi"].items()}}
    results = measure.measure(state, 6)
    assert [batch.support_x.shape[:2] for _, batch, _ in calls] == [(4, 5), (2, 5), (4, 25), (2, 25)]
    assert set(results) == {"1-shot", "5-shot"}
    for learner_used, _, inner in calls:
        assert inner == InnerLoop("adam", 1e-3, 2, 3)
        for name, v in learner_used.second_moment.items():
            assert torch.allclose(v, (5 / 3) ** 2 * state["second_moment"][name])
    measure.measure(state, 6), measure.measure(state, 6, seed=1)
    first, again, other = (batch.query_x for _, batch, _ in calls[::4])
    assert torch.equal(first, again) and not torch.equal(first, other), "the test tasks depend on the seed alone"


def test_the_seed_reaches_weights_tasks_and_nothing_else(tmp_path):
    before = torch.get_rng_state()
    a, b = (train(sine(iterations=3, seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    again = train(sine(iterations=3, seed=0), tmp_path / "again")
    assert same(a, again) and not same(a, b)
    first = [run.open_run(sine(seed=seed), tmp_path / f"new {seed}").state["phi"]["0.weight"] for seed in (0, 1)]
    assert not torch.equal(*first), "the seed does not reach the initial weights"
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are not ours to change"


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    opened = run.open_run(sine(iterations=3, meta_batch=2), tmp_path)
    monkeypatch.setattr(run, "get_rank_and_world_size", lambda: (1, 2))
    monkeypatch.setattr(run, "adapt_shared", adapt_together)
    monkeypatch.setattr(run, "save_checkpoint", lambda path, state: pytest.fail("the second process wrote"))
    run._train(opened, 0, None)


# The command line.


def test_any_name_of_a_device_that_works_gives_results(tmp_path, capsys):
    arguments = ["--data", "sine", "--iterations", "3", "--test-tasks", "4", "--device", "cpu:0"]
    main([*arguments, "--run-dir", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["meta-training"]["machine"].startswith("CPU, threads") and results["test"]["tasks"] == 4
    assert {"version", "date", "split", "curve"} <= set(results) and len(results["curve"]) == 1
    printed = capsys.readouterr()
    assert str(tmp_path / "results.json") in printed.out and "squared error, mean and 95 % interval" in printed.out
    assert "after 3 meta-iterations: " in printed.err, "the learning curve is shown while it grows"
    main([*arguments[:-4], "--test-tasks", "2", "--device", "cpu", "--run-dir", str(tmp_path)])
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == results, "a smaller test replaced it"
    assert "holds a test with more tasks (4)" in capsys.readouterr().out
    main([*arguments[:-4], "--test-tasks", "0", "--device", "cpu", "--run-dir", str(tmp_path)])
    assert str(tmp_path / "checkpoint.pt") in capsys.readouterr().out
    (tmp_path / "checkpoint.pt").unlink()  # another dtype makes another run
    other = ["--test-tasks", "2", "--device", "cpu", "--dtype", "float64", "--run-dir", str(tmp_path)]
    main([*arguments[:-4], *other])
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["meta-training"]["dtype"] == "float64" and results["test"]["tasks"] == 2


def test_a_fault_inside_is_not_a_wrong_argument(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("from deep inside")

    monkeypatch.setattr(run, "meta_train", fail)
    with pytest.raises(ValueError, match="from deep inside"):
        main([*COMMAND, "--run-dir", str(tmp_path)])


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_says_so_by_its_status(number, status, tmp_path, monkeypatch, capsys):
    sample, calls = measure.SineTasks.sample, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 10:
            signal.raise_signal(number)
        return sample(*arguments)

    monkeypatch.setattr(measure.SineTasks, "sample", stop)
    before = signal.signal(number, lambda *_: None)  # a signal that nobody collects must not end the tests
    try:
        with pytest.raises(SystemExit) as stopped:
            main([*COMMAND, "--run-dir", str(tmp_path)])
    finally:
        signal.signal(number, before)
    assert stopped.value.code == status and "the same command continues from there" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "checkpoint.pt")["iteration"] == 9


def test_options_reach_the_run_and_help_tells_the_defaults(tmp_path, capsys):
    options = "--meta-batch 2 --inner-steps 3 --inner-batch 4 --epsilon 0.5 --iterations 2 --lr 0.03 --shots 9 --seed 5"
    main(["--data", "sine", *options.split(), "--test-tasks", "0", "--device", "cpu", "--run-dir", str(tmp_path)])
    changes = {"meta_batch": 2, "inner_steps": 3, "inner_batch": 4, "epsilon": 0.5}
    changes |= {"iterations": 2, "lr": 0.03, "shots": 9, "seed": 5}
    assert settings_of(load_checkpoint(tmp_path / "checkpoint.pt")) == sine(**changes)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "100,000 / 200,000 / 30,000" in said and "(default: 180)" in said and "(default: 1000)" in said
    assert "\n  python -m reptile_helpers.train --data omniglot" in said, "the examples keep their lines"


def test_two_runs_in_one_folder_are_noticed(tmp_path):
    with interrupts.lock_folder(tmp_path), pytest.raises(ValueError, match="another run is using .*choose another"):
        train(sine(iterations=2), tmp_path)
    assert train(sine(iterations=2), tmp_path)["iteration"] == 2


def test_a_checkpoint_with_settings_of_another_version(tmp_path):
    state = train(sine(iterations=2), tmp_path)
    save_checkpoint(tmp_path / "checkpoint.pt", state | {"configuration": state["configuration"] | {"speed": 3}})
    with pytest.raises(ValueError, match="another version of reptile_helpers .unknown: speed.*another folder"):
        train(sine(iterations=2), tmp_path)


def test_training_in_a_thread_of_its_own(tmp_path):
    with ThreadPoolExecutor() as pool:
        state = pool.submit(train, sine(iterations=3), tmp_path).result()
    assert state["iteration"] == 3

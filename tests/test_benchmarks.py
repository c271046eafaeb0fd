"""The programs behind numbers that notebooks quote: they run, and the one by the clock stops and averages as told."""

import itertools
import os
import runpy
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from reptile_helpers import measure
from reptile_helpers.characters import generated_characters
from reptile_helpers.checkpoint import save_checkpoint
from reptile_helpers.learner import InnerLoop, Learner, minibatches
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.reptile import meta_train
from reptile_helpers.run import open_run
from reptile_helpers.settings import PAPER_5WAY
from reptile_helpers.stacked import adapt_together
from reptile_helpers.tasks import FewShotTasks

BENCHMARKS = Path(__file__).parent / "benchmarks"
PROGRAMS = Path(__file__).parents[1] / "notebooks" / "programs"


def test_meta_iteration():
    run = [sys.executable, BENCHMARKS / "meta_iteration.py", "--rounds", "1"]
    utf8 = os.environ | {"PYTHONIOENCODING": "utf-8"}
    lines = subprocess.run(run, capture_output=True, encoding="utf-8", env=utf8, check=True).stdout.splitlines()
    ratio = {line[:38].strip(): float(line.split("×")[1]) for line in lines if "×" in line}
    modules = ["adapt_one_by_one", "adapt_together"]
    assert list(ratio) == ["sampling", "plain loop", *modules, "bound: 4.0 GFLOP of matrix products"]
    assert ratio["adapt_together"] == 1 and ratio["sampling"] < 0.5  # with so few rounds and other tests beside it


def test_ten_minutes(monkeypatch):
    """With a clock of its own: at every look a second has passed."""
    generated, states = generated_characters(), []
    monkeypatch.setattr(measure, "find_characters", lambda settings: generated)
    monkeypatch.setattr(measure, "measure", lambda state, tasks: states.append((state, tasks)))
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)
    monkeypatch.setattr(sys, "argv", ["ten_minutes.py", "--seconds", "10", "--test-tasks", "30", "--seed", "3"])
    runpy.run_path(str(BENCHMARKS / "ten_minutes.py"), run_name="__main__")
    (state, tasks), phis = *states, []
    assert tasks == 30 and state["iteration"] == 11 and state["adam_steps"] == 55

    def watch(_, learner):
        phis.append({name: p.clone() for name, p in learner.weights.items()})

    torch.manual_seed(3)
    model, images = omniglot_cnn(5), generated.images[generated.paper_split()[0]]
    turned = torch.cat([images.rot90(turns, (2, 3)) for turns in range(4)])
    meta_train(
        model, Learner.of(model), FewShotTasks(turned, 5, 10), InnerLoop("adam", 0.005, 5, 10), meta_iterations=11,
        meta_batch=10, generator=torch.Generator().manual_seed(3), adapt=adapt_together, callback=watch,
        outer_optimizer=partial(torch.optim.SGD, lr=1.0),
    )  # fmt: skip
    for name, p in state["phi"].items():
        expected = torch.stack([phi[name] for phi in phis[8:]]).mean(0)  # seconds 9, 10 and 11 of ten
        assert torch.allclose(p, expected, rtol=0, atol=1e-6), name
        assert not torch.allclose(p, phis[-1][name], rtol=0, atol=1e-4), name


def test_moments_in_sequence(tmp_path):
    """One optimizer, whose memory runs through all tasks, gives the same weights, also in a run that was stopped."""
    program = runpy.run_path(str(PROGRAMS / "sequential_moments.py"))
    settings = replace(PAPER_5WAY, data="generated", iterations=3, meta_batch=2)
    torch.set_default_dtype(torch.float64)
    try:
        run = open_run(settings, tmp_path)

        def stop(iteration, learner):
            save_checkpoint(run.path, run.snapshot(iteration, learner, [], 0.0))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            meta_train(
                run.model, run.learner, measure.make_training_tasks(settings, run.characters, run.state, "cpu"),
                settings.inner, meta_iterations=3, meta_batch=2, generator=run.generator,
                adapt=program["adapt_in_sequence"], callback=stop,
            )  # fmt: skip
        run, state = program["train_in_sequence"](settings, tmp_path)
        torch.manual_seed(settings.seed)
        model, generator = omniglot_cnn(5), torch.Generator().manual_seed(settings.seed)
        source = measure.make_training_tasks(settings, run.characters, run.state, "cpu")
        phi = [p.detach().clone() for p in model.parameters()]
        optimizer = torch.optim.Adam(model.parameters(), settings.lr, betas=(0.0, 0.999))
        for iteration in range(settings.iterations):
            x, y, _, _ = source.sample(settings.meta_batch, generator)
            ends = []
            for task, order in enumerate(minibatches(*x.shape[:2], settings.inner, generator)):
                with torch.no_grad():
                    for p, start in zip(model.parameters(), phi, strict=True):
                        p.copy_(start)
                for batch in order:
                    optimizer.zero_grad()
                    cross_entropy(model(x[task, batch]), y[task, batch]).backward()
                    optimizer.step()
                ends.append([p.detach().clone() for p in model.parameters()])
            epsilon = 1 - iteration / settings.iterations
            phi = [p + epsilon * (sum(theta) / len(theta) - p) for p, *theta in zip(phi, *ends, strict=True)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert state["adam_steps"] == settings.iterations * settings.meta_batch * settings.inner_steps
    for p, (name, found) in zip(phi, state["phi"].items(), strict=True):
        assert torch.allclose(found, p, rtol=0, atol=1e-7), name  # a bias before batch norm has no gradient but noise
    for p, v in zip(model.parameters(), state["second_moment"].values(), strict=True):
        assert torch.allclose(v, optimizer.state[p]["exp_avg_sq"], rtol=1e-7, atol=1e-12)

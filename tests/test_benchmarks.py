"""The programs behind numbers that notebooks quote: they run, and the one by the clock stops and averages as told."""

import itertools
import runpy
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch

from reptile_helpers import measure
from reptile_helpers.characters import generated_characters
from reptile_helpers.learner import InnerLoop, Learner
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.reptile import meta_train
from reptile_helpers.stacked import adapt_together
from reptile_helpers.tasks import FewShotTasks

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_meta_iteration():
    run = [sys.executable, BENCHMARKS / "meta_iteration.py", "--rounds", "1"]
    lines = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
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

"""Several processes, started by torchrun, do what one does: the same φ, and a run that survives the death of any."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reptile_helpers import distributed as module
from reptile_helpers.checkpoint import load_checkpoint
from reptile_helpers.distributed import adapt_shared
from reptile_helpers.interrupts import lock_folder
from reptile_helpers.learner import InnerLoop, Learner, has_diverged, minibatches
from reptile_helpers.models import sine_mlp
from reptile_helpers.settings import PAPER_5WAY, SINE_EXAMPLE
from reptile_helpers.stacked import adapt_together
from reptile_helpers.tasks import SineTasks
from reptile_helpers.train import train, use_default_dtype

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="PyTorch's rendezvous for Windows lacks libuv")

FILE = "checkpoint.pt"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--local-addr=127.0.0.1", "--standalone"]
SCRIPT = """
import glob
import sys
import torch
from dataclasses import replace
from reptile_helpers.distributed import join_processes
from reptile_helpers.settings import SINE_EXAMPLE
from reptile_helpers.train import train, use_default_dtype

folder, iterations, lr, seconds = sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:])
settings = replace(SINE_EXAMPLE, optimizer="adam", lr=lr, meta_batch=4, iterations=iterations)
with use_default_dtype(torch.float64), join_processes("cpu"):
    train(settings, folder, checkpoint_seconds=seconds)
threads = [open(name).read() for name in glob.glob("/proc/self/task/*/comm")]
assert not [name for name in threads if "gloo" in name], threads
"""


def launch(ranks, folder, iterations=30, lr=0.003, checkpoint_seconds=0.2):
    """torchrun in the background, with what it says in `folder`.log."""
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    command = [*TORCHRUN, f"--nproc-per-node={ranks}"]
    with open(f"{folder}.log", "a", encoding="utf-8") as log:
        return subprocess.Popen(
            [*command, str(script), str(folder), str(iterations), str(lr), str(checkpoint_seconds)],
            stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def finish(process, folder):
    code = process.wait(120)
    return code, Path(f"{folder}.log").read_text(encoding="utf-8")


def alone(folder, iterations=30):
    settings = replace(SINE_EXAMPLE, optimizer="adam", lr=0.003, meta_batch=4, iterations=iterations)
    with use_default_dtype(torch.float64):
        return train(settings, folder)


def assert_equal(states):
    first, *others = states
    for state in others:
        assert state["iteration"] == first["iteration"] and state["adam_steps"] == first["adam_steps"]
        for part in ("phi", "second_moment"):
            for name, p in first[part].items():
                assert p.dtype == torch.float64
                assert torch.allclose(p, state[part][name], rtol=0, atol=1e-9), name


def test_two_and_four_processes_end_where_one_does(tmp_path):
    states = [alone(tmp_path / "1")]
    for ranks in (2, 4):
        folder = tmp_path / str(ranks)
        code, said = finish(launch(ranks, folder), folder)
        assert code == 0, said
        states.append(load_checkpoint(folder / FILE))
    assert_equal(states)
    assert sorted(os.listdir(tmp_path / "2")) == [".lock", FILE]


def children(process):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    return [int(pid) for pid in listed.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="asks ps for the processes that torchrun has started")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_stops_the_run_and_any_number_goes_on_with_it(victim, tmp_path):
    """When the first process dies, the last checkpoint is left; it writes one itself when another dies."""
    folder = tmp_path / "run"
    process = launch(2, folder, iterations=300, checkpoint_seconds=1e9 if victim else 0.2)
    log = Path(f"{folder}.log")
    while not (re.search(r"\d\d/300 ", log.read_text(encoding="utf-8")) if victim else (folder / FILE).exists()):
        assert process.poll() is None, finish(process, folder)
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGSTOP)  # torchrun, which would ask the survivor to stop before it has noticed
    os.kill(children(process)[victim], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (folder / FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGCONT)
    code, said = finish(process, folder)
    assert code == 1 and "exitcode  : -9" in said
    reached = load_checkpoint(folder / FILE)["iteration"]
    assert 0 < reached < 300
    code, said = finish(launch(3, folder, iterations=300), folder)
    assert code == 0, said
    assert_equal([alone(tmp_path / "undisturbed", 300), load_checkpoint(folder / FILE)])


def test_a_diverging_inner_loop_in_one_process_stops_all(tmp_path):
    folder = tmp_path / "run"
    code, said = finish(launch(2, folder, lr=1000.0), folder)
    assert code == 1 and "FloatingPointError: meta-iteration 1: an inner loop diverged" in said
    assert not (folder / FILE).exists(), "there was no progress to keep"


@pytest.mark.parametrize("rank, diverges", [(0, True), (1, False)])
def test_a_process_tells_the_others_that_a_task_of_its_own_diverged(rank, diverges, monkeypatch):
    """Task 2 of 4 diverges, by less than what would show in the mean. Two processes: the first has tasks 0 and 2."""
    monkeypatch.setattr(module, "get_rank_and_world_size", lambda: (rank, 2))
    monkeypatch.setattr(module.distributed, "all_reduce", lambda total: None)  # what this process would send
    torch.manual_seed(0)
    model, inner = sine_mlp(), InnerLoop("sgd", lr=0.02, steps=1, batch_size=10)
    generator = torch.Generator().manual_seed(0)
    x, y, _, _ = SineTasks().sample(4, generator)
    y[2] *= 10_000  # its weights move by 23 norms of φ
    adapted = adapt_together(model, Learner.of(model), x, y, minibatches(4, 10, inner, generator), inner)
    assert has_diverged(Learner.of(model).weights, adapted.weights).tolist() == [False, False, True, False]
    mean = adapt_shared(model, Learner.of(model), x, y, minibatches(4, 10, inner, generator), inner)
    assert all(p.shape[0] == 1 and p.isnan().all() == diverges for p in mean.weights.values())


def test_more_processes_than_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr("reptile_helpers.run.get_rank_and_world_size", lambda: (4, 5))  # torchrun's, here for the fifth
    with pytest.raises(ValueError, match="5 processes cannot share 4 tasks; start fewer processes"):
        alone(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def launch_by_hand(ranks, *arguments):
    """The processes of a run without torchrun, which would end the others as soon as one has failed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "reptile_helpers.train", *arguments]
    return [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(ranks)
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["other settings", "another run", "no folder"])
def test_a_refused_run_ends_in_every_process_with_one_sentence(tmp_path, reason):
    folder, expected = tmp_path / "run", "belongs to another run: iterations 2 (now 3)"
    if reason == "no folder":
        folder.write_text("a file", encoding="utf-8")
        expected = "File exists"
    else:
        train(replace(SINE_EXAMPLE, meta_batch=2, iterations=2), folder)
    arguments = "--data sine --meta-batch 2 --iterations 3 --device cpu --test-tasks 0".split()
    with lock_folder(folder) if reason == "another run" else nullcontext():
        processes = launch_by_hand(2, *arguments, "--run-dir", str(folder))
        said = [process.communicate(timeout=120)[1].strip() for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    if reason == "another run":
        expected = "another run is using"
    assert expected in said[0] and len(said[0].splitlines()) == 1, said[0]
    assert not said[1], said[1]


def test_a_problem_of_one_process_is_raised_in_all(monkeypatch):
    def gather(problems, problem):
        problems[:] = [problem, FileNotFoundError("there is no Omniglot here")]

    monkeypatch.setattr(module, "get_rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr(module.distributed, "all_gather_object", gather)
    with pytest.raises(FileNotFoundError, match="there is no Omniglot here"), module.fail_together():
        pass
    with pytest.raises(ValueError, match="mine"), module.fail_together():
        raise ValueError("mine")


def test_the_command(tmp_path, monkeypatch):
    """Two processes and Omniglot's network, by the command that the README shows."""
    folders = str(tmp_path / "1"), str(tmp_path / "2")
    monkeypatch.setattr("reptile_helpers.run.evaluate", lambda *_, **__: torch.zeros(200))  # not what is looked at here
    with use_default_dtype(torch.float64):
        train(replace(PAPER_5WAY, data="generated", iterations=2), folders[0])
    command = [*TORCHRUN, "--nproc-per-node=2"]
    command += "-m reptile_helpers.train --data generated --ways 5 --iterations 2 --device cpu".split()
    command += ["--dtype", "float64", "--test-tasks", "0", "--run-dir", folders[1]]
    for _ in range(2):  # the second time all is done, and the processes end right after an exchange
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        run = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=120)
        assert run.returncode == 0, run.stderr
    states = [load_checkpoint(Path(folder) / FILE) for folder in folders]
    for state in states:  # in front of batch norm the gradient is zero, and Adam turns its rounding noise into steps
        for name in ("0.bias", "3.bias", "6.bias", "9.bias"):
            del state["phi"][name]
    assert_equal(states)

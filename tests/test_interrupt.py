"""Jupyter's stop button in the middle of a meta-iteration, and then the next cell: in a real kernel."""

import json
import time

import pytest
from jupyter_client.manager import KernelManager

SETUP = """
import sys
import torch
from reptile_helpers.checkpoint import load_checkpoint
from reptile_helpers.models import sine_mlp
from reptile_helpers.learner import InnerLoop, Learner
from reptile_helpers.reptile import meta_train
from reptile_helpers.tasks import SineTasks
from dataclasses import replace
from reptile_helpers.settings import SINE_EXAMPLE
from reptile_helpers.train import train

torch.manual_seed(0)
model = sine_mlp()
learner = Learner.of(model)
inner = InnerLoop("adam", lr=0.003, steps=5, batch_size=10)
settings = replace(SINE_EXAMPLE, optimizer="adam", lr=0.003, iterations=1_000_000)


class Noisy(SineTasks):
    def sample(self, tasks, generator):
        print("sampled")
        return super().sample(tasks, generator)


def run(iterations, callback=None, tasks=SineTasks(shots=50), **options):
    return meta_train(
        model, learner, tasks, inner, meta_iterations=iterations, meta_batch=1,
        generator=torch.Generator().manual_seed(0), callback=callback, **options
    )
"""


class Kernel:
    def __init__(self, folder):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(60)

    def cell(self, source, interrupt_at=None):
        """Run a cell, and press the stop button once it has printed `interrupt_at`. What it printed, and its error."""
        # Without stop_on_error=False, the kernel may still be discarding requests when the next cell arrives.
        request, printed, error = self.client.execute(source, stop_on_error=False), "", None
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                printed += content["text"]
                if interrupt_at and interrupt_at in printed:
                    interrupt_at = None
                    time.sleep(0.3)
                    self.manager.interrupt_kernel()
            if kind == "error":
                error = content["ename"], content["evalue"]
            if kind == "status" and content["execution_state"] == "idle":
                return printed, error

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    kernel = Kernel(tmp_path)
    assert kernel.cell(SETUP) == ("", None)
    yield kernel
    kernel.stop()


def test_meta_train_is_stopped_and_the_next_cell_starts_from_where_it_should(kernel):
    _, error = kernel.cell("run(1_000_000, tasks=Noisy(shots=50))", interrupt_at="sampled")
    assert error[0] == "KeyboardInterrupt"
    untouched = "all(torch.equal(p, learner.weights[n]) for n, p in model.named_parameters())"
    clean = "all(p.grad is None for p in model.parameters())"
    printed, error = kernel.cell(f"print({untouched}, {clean}, run(5).adam_steps)")
    assert error is None and printed.split() == ["True", "True", "25"]


def test_train_saves_whole_meta_iterations_and_goes_on_in_the_next_cell(kernel, tmp_path):
    start = "print('started'); train(settings, 'run', checkpoint_seconds=1e9)"
    _, error = kernel.cell(start, interrupt_at="started")
    assert error[0] == "Stopped" and "the same command continues from there" in error[1]
    reached = "print(load_checkpoint('run/checkpoint.pt')['iteration'])"
    first = int(kernel.cell(reached)[0])
    _, error = kernel.cell(start, interrupt_at="started")
    assert error[0] == "Stopped"
    second = int(kernel.cell(reached)[0])
    assert 0 < first < second
    # The same number of meta-iterations without a stop: the same bits.
    compare = f"""
import json
state = load_checkpoint("run/checkpoint.pt")
class Enough(Exception): pass
def enough(iteration, learner):
    if iteration == {second}:
        print(json.dumps([torch.equal(p, learner.weights[n]) for n, p in state["phi"].items()]
            + [torch.equal(v, learner.second_moment[n]) for n, v in state["second_moment"].items()]))
        raise Enough
torch.manual_seed(0)
model = sine_mlp()
learner = Learner.of(model)
run(1_000_000, enough, epsilon=settings.epsilon)
"""
    printed, error = kernel.cell(compare)
    assert error[0] == "Enough" and all(json.loads(printed)), printed


def test_nothing_is_imported_in_the_middle(kernel):
    """An import that the stop button cuts in two leaves half a module, and the next cell with it."""
    printed, error = kernel.cell("before = set(sys.modules); run(2); print(sorted(set(sys.modules) - before))")
    assert error is None and not [name for name in json.loads(printed.replace("'", '"')) if "torch" in name], printed

"""What of the GPU path can be shown without a GPU: where compiling is impossible, learning goes on without it."""

import warnings
from functools import partial

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

from reptile_helpers import gpu
from reptile_helpers.gpu import compile_or_keep, make_compiled_adapt
from reptile_helpers.learner import InnerLoop, Learner, minibatches
from reptile_helpers.models import sine_mlp
from reptile_helpers.stacked import adapt_together
from reptile_helpers.tasks import SineTasks

INNER = InnerLoop("adam", lr=0.01, steps=2, batch_size=5)


def seeded():
    return torch.Generator().manual_seed(0)


def run_it(graph, _):
    return graph.forward


def fail(graph, _):
    raise RuntimeError("no C compiler found\nand twenty more lines")


@pytest.fixture
def triton(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: name == "triton")
    torch._dynamo.reset()


def learn(adapt, model, tasks=2):
    x, y, _, _ = SineTasks().sample(2, seeded())
    return adapt(model, Learner.of(model), x, y, minibatches(tasks, 10, INNER, seeded()), INNER)


@pytest.mark.parametrize("forward, backward", [(run_it, run_it), (fail, run_it), (run_it, fail)])
def test_a_compiler_that_fails_at_any_time_is_left_out(float64, triton, monkeypatch, forward, backward):
    """The gradient is compiled later than the loss, in the middle of the first inner step."""
    backend = aot_autograd(fw_compiler=forward, bw_compiler=backward)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model, adapt = sine_mlp(), make_compiled_adapt()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        results = [learn(adapt, model) for _ in range(2)]
    told = [str(warning.message) for warning in seen if "failed" in str(warning.message)]
    expected = "torch.compile failed (no C compiler found); going on without it, more slowly."
    if fail in (forward, backward):
        assert told == [expected]
    else:
        assert not told
    for result in results:
        for name, p in learn(adapt_together, model).weights.items():
            assert torch.allclose(result.weights[name], p, rtol=0, atol=1e-9)


def test_wrong_arguments_are_not_the_compilers_fault(triton, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    adapt, model = make_compiled_adapt(), sine_mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="x has 2 tasks, y 2 and batches 3"):
            learn(adapt, model, tasks=3)


@pytest.mark.parametrize("capability, reason", [((6, 0), "it needs a GPU of 2017 or later"), (None, "Triton is not")])
def test_a_machine_that_cannot_compile_says_so(monkeypatch, capability, reason):
    def double(x):
        return 2 * x

    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=rf"torch.compile is not used \({reason}.*slower without it") as seen:
        assert compile_or_keep(double) is double
    assert len(seen) == 1 and seen[0].filename == __file__
    with pytest.warns(UserWarning, match=reason):
        assert make_compiled_adapt() is adapt_together

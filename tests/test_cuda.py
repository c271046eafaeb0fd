"""What only a GPU can show: a recorded meta-iteration is a launched one, and a run there goes on where it stopped."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from reptile_helpers.evaluate import evaluate
from reptile_helpers.generated import generate_characters
from reptile_helpers.gpu import meta_train_on_gpu, record
from reptile_helpers.learner import InnerLoop, Learner
from reptile_helpers.measure import measure
from reptile_helpers.models import omniglot_cnn, sine_mlp
from reptile_helpers.reptile import adapt_one_by_one, meta_train
from reptile_helpers.run import train
from reptile_helpers.settings import PAPER_5WAY
from reptile_helpers.stacked import adapt_together
from reptile_helpers.tasks import FewShotTasks, SineTasks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SGD = InnerLoop("sgd", lr=0.02, steps=5, batch_size=10)
ADAM = InnerLoop("adam", lr=1e-3, steps=5, batch_size=10)
FRESH = InnerLoop("adam", lr=1e-3, steps=5, batch_size=10, carry_moments=False)
BEFORE_BATCH_NORM = ("0.bias", "3.bias", "6.bias", "9.bias")  # no true gradient: Adam makes steps of rounding noise


def seeded(seed=0):
    return torch.Generator("cuda").manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return generate_characters(40).cuda()


def run(network, source, inner, meta_train=meta_train, **options):
    torch.manual_seed(0)
    model = network().cuda()
    options = {"meta_iterations": 20, "meta_batch": 5, "generator": seeded(), "epsilon": 0.7} | options
    return meta_train(model, Learner.of(model), source, inner, **options)


def meta_train_recorded(model, learner, tasks, inner, *, generator, **options):
    """`meta_train` as a CUDA graph without the compiler."""
    learner = replace(learner, adam_steps=torch.zeros((), device="cuda") + learner.adam_steps)

    def speed_up(*halves):
        return [record(half, generator) for half in halves]

    options |= {"generator": generator, "speed_up": speed_up, "adapt": adapt_together}
    return meta_train(model, learner, tasks, inner, **options)


def assert_same(a, b):
    assert int(a.adam_steps) == int(b.adam_steps)
    for name, p in a.weights.items():
        noise = len(a.weights) > 6 and name in BEFORE_BATCH_NORM
        assert torch.allclose(p, b.weights[name], rtol=0, atol=1e-5 if noise else 1e-9), name
        assert torch.allclose(a.second_moment[name], b.second_moment[name], rtol=1e-7, atol=1e-12), name


@pytest.mark.parametrize("inner", [SGD, ADAM, FRESH], ids=["sgd", "adam", "fresh"])
@pytest.mark.parametrize("network", ["sine", "omniglot"])
def test_a_recorded_meta_iteration_is_a_launched_one(float64, images, network, inner):
    """New tasks, annealing and the count of steps included; and one by one is together on a GPU, too."""
    both = (
        (sine_mlp, SineTasks(shots=50))
        if network == "sine"
        else (partial(omniglot_cnn, 5), FewShotTasks(images, 5, 10))
    )
    launched = run(*both, inner, adapt=adapt_together)
    assert_same(launched, run(*both, inner, meta_train=meta_train_recorded))
    assert_same(launched, run(*both, inner, adapt=adapt_one_by_one))
    assert_same(launched, run(*both, inner, meta_train=meta_train_on_gpu))
    assert not torch.equal(launched.weights["0.weight"], run(*both, inner, generator=seeded(1)).weights["0.weight"])


def test_a_recorded_run_goes_on_where_it_stopped(float64):
    states = []

    def watch(iteration, learner):
        if iteration == 8:
            weights, moments = ({n: t.clone() for n, t in d.items()} for d in (learner.weights, learner.second_moment))
            states.append((Learner(weights, moments, int(learner.adam_steps)), generator.get_state()))

    generator = seeded()
    source, model = SineTasks(shots=50), sine_mlp().cuda()
    options = {"meta_iterations": 20, "meta_batch": 3}
    whole = meta_train_on_gpu(model, Learner.of(model), source, ADAM, generator=generator, callback=watch, **options)
    learner, position = states[0]
    generator = seeded()
    generator.set_state(position)
    assert_same(whole, meta_train_on_gpu(model, learner, source, ADAM, generator=generator, start=8, **options))


def test_a_recorded_run_stops_before_the_outer_step_that_would_ruin_it():
    scale, seen = torch.ones((), device="cuda"), []

    class Scaled(SineTasks):
        def sample(self, tasks, generator):
            batch = super().sample(tasks, generator)
            return batch._replace(support_y=scale * batch.support_y)

    def watch(iteration, learner):
        seen.append(all(p.isfinite().all() for p in learner.weights.values()))
        if iteration == 5:
            scale.fill_(1e6)

    message = "meta-iteration 6: an inner loop diverged. φ is unchanged since meta-iteration 5"
    with pytest.raises(FloatingPointError, match=message):
        run(sine_mlp, Scaled(shots=50), SGD, meta_train=meta_train_on_gpu, callback=watch)
    assert seen == [True] * 5


def test_evaluation_on_a_gpu_is_that_on_the_cpu(float64, images):
    model = omniglot_cnn(5)
    learner = Learner.of(model)
    tasks = FewShotTasks(images.cpu(), ways=5, shots=1).sample(300, torch.Generator().manual_seed(0))
    inner = InnerLoop("adam", lr=1e-3, steps=10, batch_size=5)  # all five images in each step, whatever their order
    here = evaluate(model, learner, tasks, inner, torch.Generator().manual_seed(0))
    there = Learner(
        {n: p.cuda() for n, p in learner.weights.items()}, {n: v.cuda() for n, v in learner.second_moment.items()}
    )
    on_gpu = evaluate(model.cuda(), there, type(tasks)(*(t.cuda() for t in tasks)), inner, seeded())
    assert (here != on_gpu.cpu()).float().mean() < 0.02  # Adam's first step is a sign, and rounding has a say in it
    assert abs(here.mean() - on_gpu.cpu().mean()) < 0.005


def test_a_long_run_on_a_gpu(tmp_path):
    state = train(replace(PAPER_5WAY, data="generated", iterations=400, lr=3e-3), tmp_path, "cuda")
    assert state["iteration"] == 400 and state["adam_steps"] == 2000
    results = measure(state, 200, "cuda")
    assert results["1-shot"]["transductive"][0] > 0.65  # 0.75 on a CPU; after one meta-iteration 0.46

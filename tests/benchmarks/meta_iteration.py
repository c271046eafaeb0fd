"""How long is a meta-iteration of the paper's 5-way recipe? python tests/benchmarks/meta_iteration.py [--device cuda]

Measures, one after the other in each of 35 rounds so that a noisy machine hits all alike: a loop in plain PyTorch, the
module's two inner loops, the sampling of the tasks, and the matrix products that would be as much arithmetic (4.0
GFLOP); on a GPU also the sampling, and the whole meta-iteration with it, as CUDA graphs, and the latter compiled
besides, with products in TF32, as in a long run there. Prints medians and ratios, and how much memory the process took
in the second half of the rounds.
"""

import argparse
import copy
import ctypes
import resource
import statistics
import sys
import time
from functools import partial

import torch
from torch.nn import functional as F

from reptile_helpers.gpu import compile_or_keep, make_compiled_adapt, record, use_tf32
from reptile_helpers.learner import InnerLoop, Learner, minibatches
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.reptile import adapt_one_by_one, outer_step
from reptile_helpers.stacked import adapt_together
from reptile_helpers.tasks import FewShotTasks

TASKS, GFLOP = 5, 4.0
INNER = InnerLoop("adam", lr=1e-3, steps=5, batch_size=10)


def plain_loop(model, x, y, batches):
    """Reptile as most people would write it: copy the module, a new Adam, no moments carried."""
    differences = [torch.zeros_like(p) for p in model.parameters()]
    for x_task, y_task, order in zip(x, y, batches, strict=True):
        learner = copy.deepcopy(model)
        optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3, betas=(0.0, 0.999))
        for batch in order:
            optimizer.zero_grad()
            F.cross_entropy(learner(x_task[batch]), y_task[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            for difference, theta, phi in zip(differences, learner.parameters(), model.parameters(), strict=True):
                difference += (theta - phi) / len(x)
    with torch.no_grad():
        for phi, difference in zip(model.parameters(), differences, strict=True):
            phi += difference


def keep_memory():
    """On Linux, have the C library keep what is freed.

    By default its limit grows with the blocks that a program frees. In a run it is high, for example after Omniglot was
    loaded; here it would be low, and in every round the batched program would give 30 MB back and ask for them again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def main():
    sys.stdout.reconfigure(errors="replace")  # a console or log file may not know ×
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=35)
    options = parser.parse_args()
    device = options.device
    keep_memory()
    torch.manual_seed(0)
    generator = torch.Generator(device).manual_seed(0)
    images = (torch.rand(4800, 20, 28, 28) > 0.1).to(torch.uint8).mul(255).to(device)
    source = FewShotTasks(images, ways=5, shots=10)
    model = omniglot_cnn(5).to(device)
    learner = Learner.of(model)
    a, b = torch.rand(2, 1024, 1024, device=device)
    batch = {}

    def sampling():
        batch["x"], batch["y"], _, _ = source.sample(TASKS, generator)
        batch["order"] = minibatches(TASKS, 50, INNER, generator)

    def module_loop(adapt):
        adapted = adapt(model, learner, batch["x"], batch["y"], batch["order"], INNER)
        outer_step(learner.weights, adapted.weights, 1.0)

    def products():
        for _ in range(10):
            a @ b

    programs = {
        "sampling": sampling,
        "plain loop": lambda: plain_loop(model, batch["x"], batch["y"], batch["order"]),
        "adapt_one_by_one": lambda: module_loop(adapt_one_by_one),
        "adapt_together": lambda: module_loop(adapt_together),
        "matrix products": products,
    }
    if device != "cpu":
        fixed = Learner(learner.weights, learner.second_moment, torch.zeros((), device=device))

        def meta_iteration(adapt, outer_step):
            x, y, _, _ = source.sample(TASKS, generator)
            adapted = adapt(model, fixed, x, y, minibatches(TASKS, 50, INNER, generator), INNER)
            outer_step(learner.weights, adapted.weights, 1.0)

        as_written = partial(meta_iteration, adapt_together, outer_step)
        fused = use_tf32()(partial(meta_iteration, make_compiled_adapt(), compile_or_keep(outer_step)))
        programs["sampling, as a CUDA graph"] = record(sampling, generator)
        programs["all of it, as a CUDA graph"] = record(as_written, generator)
        programs["and compiled, products in TF32"] = record(fused, generator)
    times = {name: [] for name in programs}
    for round_ in range(options.rounds + 3):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            if device != "cpu":
                torch.cuda.synchronize()
            if round_ >= 3:  # the first ones warm up
                times[name].append(1000 * (time.perf_counter() - start))
        if round_ == 3 + options.rounds // 2:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    medians = {name: statistics.median(values) for name, values in times.items()}
    rate = 10 * 2 * 1024**3 / 1e9 / medians.pop("matrix products")  # GFLOP per ms
    medians["bound: 4.0 GFLOP of matrix products"] = GFLOP / rate
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {device}, {options.rounds} rounds")
    for name, median in medians.items():
        print(f"{name:38} {median:8.2f} ms   × {median / medians['adapt_together']:.2f}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(f"peak memory grew by {grown / 1024:.1f} MiB in the second half of the rounds")


if __name__ == "__main__":
    main()

"""What do ten minutes on two cores buy?

    torchrun --local-addr=127.0.0.1 --nproc-per-node=2 tests/benchmarks/ten_minutes.py [--seed 0]

The runs by the clock in section 3 of notebook 11: 5-way Omniglot, ten tasks per meta-iteration, an inner learning rate
of 0.005, ε = 1 to the end, and the mean of φ over the last fifth of the time. It stops after 590 seconds, loading
Omniglot included, as torchrun and PyTorch need the other ten to start. Then it tests, which is not part of the time.
"""

import argparse
import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch

from reptile_helpers.distributed import adapt_shared, broadcast_from_first, get_rank_and_world_size, join_processes
from reptile_helpers.learner import Learner
from reptile_helpers.measure import find_characters, make_training_tasks, measure
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.reptile import meta_train
from reptile_helpers.settings import PAPER_5WAY
from reptile_helpers.stacked import adapt_together


class TimeIsUp(Exception):
    pass


def main():
    sys.stdout.reconfigure(errors="replace")  # a console or log file may not know φ
    begun = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=590)
    parser.add_argument("--test-tasks", type=int, default=2000)
    options = parser.parse_args()
    settings = replace(PAPER_5WAY, seed=options.seed, lr=0.005, meta_batch=10)
    characters = find_characters(settings)
    train_classes, test_classes = characters.paper_split()
    state = {"configuration": settings.to_dict(), "train_classes": train_classes, "test_classes": test_classes}
    tasks = make_training_tasks(settings, characters, state, "cpu")
    torch.manual_seed(options.seed)
    model, generator = omniglot_cnn(settings.ways), torch.Generator().manual_seed(options.seed)
    mean = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    averaged, state["phi"] = 0, mean

    def after(iteration, learner):
        nonlocal averaged
        seconds = broadcast_from_first(time.perf_counter() - begun)
        if seconds > 0.8 * options.seconds:
            averaged += 1
            for name, p in learner.weights.items():
                mean[name] += (p - mean[name]) / averaged
        if seconds > options.seconds:
            state.update(iteration=iteration, second_moment=learner.second_moment, adam_steps=learner.adam_steps)
            raise TimeIsUp

    with join_processes("cpu"), suppress(TimeIsUp):
        rank, ranks = get_rank_and_world_size()
        meta_train(
            model, Learner.of(model), tasks, settings.inner, meta_iterations=10**6,
            meta_batch=settings.meta_batch, generator=generator, outer_optimizer=partial(torch.optim.SGD, lr=1.0),
            adapt=adapt_shared if ranks > 1 else adapt_together, callback=after,
        )  # fmt: skip
    if rank == 0:
        threads = torch.get_num_threads()
        print(f"seed {options.seed}, {options.seconds:g} s, {ranks} processes of {threads} threads:", end=" ")
        print(f"{state['iteration']:,} meta-iterations; the mean is of the last {averaged:,} φ", flush=True)
        torch.set_num_threads(ranks * threads)  # the other processes are gone
        print(json.dumps(measure(state, options.test_tasks), indent=1))


if __name__ == "__main__":
    main()

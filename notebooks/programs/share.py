"""Twelve meta-iterations of the paper's 5-way recipe, shared between N processes: python share.py N

Used by notebook 11. Everything is in float64, so that only the order of a sum can differ between runs. It prints the
median time of a meta-iteration and of an exchange as JSON, and writes φ to the file phiN in the current folder. PORT is
read from the environment: a free one for the processes to meet at.
"""

import json
import os
import sys
import time

import torch
from torch import distributed

from reptile_helpers.distributed import adapt_shared, join_processes
from reptile_helpers.generated import generate_characters
from reptile_helpers.learner import Learner
from reptile_helpers.models import omniglot_cnn
from reptile_helpers.reptile import meta_train
from reptile_helpers.settings import PAPER_5WAY
from reptile_helpers.tasks import FewShotTasks


def work(rank, n):
    place = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in place.items()}  # torchrun would set these
    os.environ["MASTER_PORT"] = os.environ["PORT"]
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    model, tasks = omniglot_cnn(5), FewShotTasks(generate_characters(50), ways=5, shots=10)
    moments = []
    with join_processes("cpu"):
        learner = meta_train(
            model, Learner.of(model), tasks, PAPER_5WAY.inner, adapt=adapt_shared, meta_iterations=12,
            meta_batch=PAPER_5WAY.meta_batch, generator=torch.Generator().manual_seed(0),
            callback=lambda *_: moments.append(time.perf_counter()),
        )  # fmt: skip
        numbers = torch.zeros(2 * sum(p.numel() for p in learner.weights.values()))
        distributed.barrier()
        start = time.perf_counter()
        for _ in range(20):
            distributed.all_reduce(numbers)
        exchange = (time.perf_counter() - start) / 20
    if rank == 0:
        torch.save(learner.weights, f"phi{n}")
        times = sorted(after - before for before, after in zip(moments[1:], moments[2:]))
        print(json.dumps({"time": times[len(times) // 2], "exchange": exchange, "bytes": 8 * len(numbers)}))


if __name__ == "__main__":
    # Forked processes share the memory of PyTorch itself, 0.3 GB. Only on Linux is that safe.
    method = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(work, (int(sys.argv[1]),), nprocs=int(sys.argv[1]), start_method=method)

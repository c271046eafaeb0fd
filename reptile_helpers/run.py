"""A long run of meta-training that can be stopped at any moment and continued bit for bit.

The newest state is always in `run_dir`/checkpoint.pt. On a CPU, the same machine and the same number of threads, a run
that was stopped and continued ends with the same bits as one that was not.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import torch

from reptile_helpers.characters import Characters
from reptile_helpers.checkpoint import describe_shapes, learner_of, load_checkpoint, save_checkpoint, settings_of
from reptile_helpers.distributed import adapt_shared, broadcast_from_first, fail_together, get_rank_and_world_size
from reptile_helpers.evaluate import evaluate, mean_and_interval
from reptile_helpers.gpu import meta_train_on_gpu
from reptile_helpers.interrupts import RefusedRun, Stopped, collect_stop_requests, lock_folder
from reptile_helpers.learner import Learner
from reptile_helpers.measure import find_characters, make_model, make_training_tasks, sample_test_tasks
from reptile_helpers.reptile import meta_train
from reptile_helpers.settings import RunSettings
from reptile_helpers.stacked import adapt_together

CURVE_POINTS, CURVE_TASKS = 50, 200
CURVE_TASKS_SEED, CURVE_ADAPT_SEED = 7, 0


@dataclass
class Run:
    """A run in progress: what it works with, and what a checkpoint saves of it."""

    settings: RunSettings
    path: Path  # of the checkpoint
    device: str
    model: torch.nn.Module
    generator: torch.Generator
    characters: Characters | None  # None for sine waves
    learner: Learner
    state: dict  # as in the checkpoint that the run starts from

    def snapshot(self, iteration: int, learner: Learner, curve: list, seconds: float) -> dict:
        """A checkpoint of this moment. Its tensors are the learner's own, which the next outer step changes."""
        return self.state | {
            "phi": learner.weights, "second_moment": learner.second_moment, "adam_steps": int(learner.adam_steps),
            "iteration": iteration, "generator": self.generator.get_state(), "curve": curve, "seconds": seconds,
        }  # fmt: skip


def train(
    settings: RunSettings, run_dir: str | os.PathLike, device: str = "cpu", checkpoint_seconds: float = 180,
    report: Callable[[int, float, float], None] | None = None,
) -> dict | None:  # fmt: skip
    """Meta-train with these settings, or continue from `run_dir`/checkpoint.pt. Returns the checkpoint at the end.

    Everything is in PyTorch's default dtype. On a GPU each meta-iteration is compiled and replayed as a CUDA graph, see
    gpu.py, unless several processes share the meta-batch. Every process makes this same call; the first one
    does the reading, writing and watching, and the others return None.

    A checkpoint is written every `checkpoint_seconds`, at the end, and on Ctrl-C or SIGTERM, which then raise
    KeyboardInterrupt. It is also written, as of the last good meta-iteration, if an inner loop diverges
    (FloatingPointError) or another process dies (ConnectionError).
    Its learning curve has up to 50 points, at least 100 meta-iterations apart (the last may be closer): accuracy (or
    squared error) on 200 test tasks, 1-shot (or ten points), transductive, after as many inner steps as in
    meta-training. It is there to be looked at; no choice depends on it. report: called as
    report(iteration, mean, half_width) at each point.

    Raises RefusedRun, a ValueError, if the checkpoint is damaged or belongs to other settings, another network or
    dtype, or if another run is using the folder; nothing is overwritten then. OSError if the last checkpoint
    cannot be written; before that, a warning after each attempt says so and training goes on. Several processes all
    raise the same.
    """
    rank, world_size = get_rank_and_world_size()
    if world_size > settings.meta_batch:
        raise RefusedRun(f"{world_size} processes cannot share {settings.meta_batch} tasks; start fewer processes")
    with ExitStack() as held:
        with fail_together():
            if rank == 0:
                held.enter_context(lock_folder(Path(run_dir)))
        run = open_run(settings, run_dir, device)
        _train(run, checkpoint_seconds, report)
        return load_checkpoint(run.path) if rank == 0 else None


def open_run(settings: RunSettings, run_dir: str | os.PathLike, device: str = "cpu") -> Run:
    """The run in `run_dir`, at its last checkpoint, or a new one. Raises RefusedRun if it cannot be opened."""
    path, (rank, _), state = Path(run_dir) / "checkpoint.pt", get_rank_and_world_size(), None
    with fail_together():
        characters = find_characters(settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = make_model(settings).to(device)
        generator = torch.Generator(device).manual_seed(settings.seed)
        if rank == 0 and path.exists():
            state = _load_own_checkpoint(path, settings, model)
        elif rank == 0:
            state = _start_state(settings, characters, model, generator)
    state = broadcast_from_first(state)
    if len(state["generator"]) != len(generator.get_state()):
        raise RefusedRun(f"{path} is of a run on a different kind of device than {device}; it can only continue there.")
    generator.set_state(state["generator"])
    return Run(settings, path, device, model, generator, characters, learner_of(state, device), state)


def _start_state(settings, characters, model, generator) -> dict:
    train_classes, test_classes = characters.paper_split() if characters else torch.empty(2, 0, dtype=torch.int64)
    learner = Learner.of(model)
    return {
        "phi": learner.weights, "second_moment": learner.second_moment, "adam_steps": 0,
        "train_classes": train_classes, "test_classes": test_classes, "configuration": settings.to_dict(),
        "iteration": 0, "generator": generator.get_state(), "curve": [], "seconds": 0.0,
    }  # fmt: skip


def _load_own_checkpoint(path: Path, settings: RunSettings, model: torch.nn.Module) -> dict:
    try:
        state = load_checkpoint(path)
        differences = settings_of(state).differences(settings)
    except ValueError as problem:  # damaged, or of another version
        raise RefusedRun(f"{problem} Choose another folder, or delete this file.") from problem
    if differences:
        raise RefusedRun(f"{path} belongs to another run: {differences}. Choose another folder, or delete that file.")
    if describe_shapes(state["phi"]) != describe_shapes(Learner.of(model).weights):
        raise RefusedRun(f"{path} holds weights of another network or dtype. Choose another folder.")
    return state


def _train(run: Run, checkpoint_seconds: float, report: Callable | None) -> None:
    settings, (rank, world_size) = run.settings, get_rank_and_world_size()
    curve, start, end = list(run.state["curve"]), run.state["iteration"], settings.iterations
    tasks = make_training_tasks(settings, run.characters, run.state, run.device)
    seeded = torch.Generator(run.device).manual_seed(CURVE_TASKS_SEED)
    curve_tasks = sample_test_tasks(run.state, run.characters, 1 if run.characters else 10, CURVE_TASKS, seeded)
    curve_every = max(100, -(-end // CURVE_POINTS))
    begun, seconds_before = time.perf_counter(), run.state["seconds"]
    last_saved, newest = begun, run.state

    def save(required: bool) -> None:
        try:
            save_checkpoint(run.path, newest)
        except OSError as error:
            if required:
                raise
            # Python shows the same text only once, so each has the number of its meta-iteration.
            told = f"meta-iteration {newest['iteration']}: {error}. Training goes on; the next attempt is in"
            warnings.warn(f"{told} {checkpoint_seconds} s.", stacklevel=2)

    def after_meta_iteration(iteration: int, learner: Learner) -> None:
        nonlocal last_saved, newest
        if rank:  # the first process does the rest on behalf of all
            return
        now = time.perf_counter()
        # First of all: if the evaluation fails, this is the state to save. The curve is the same list, and still grows.
        newest = run.snapshot(iteration, learner, curve, seconds_before + now - begun)
        if iteration % curve_every == 0 or iteration == end:
            seeded = torch.Generator(run.device).manual_seed(CURVE_ADAPT_SEED)
            at_point = Learner(learner.weights, learner.second_moment, int(learner.adam_steps))
            scores = evaluate(run.model, at_point, curve_tasks, settings.inner, seeded, progress=False)
            curve.append((iteration, *mean_and_interval(scores)))
            if report:
                report(*curve[-1])
        last = bool(stop_requests) or iteration == end
        if last or now - last_saved >= checkpoint_seconds:
            save(required=last)
            last_saved = time.perf_counter()  # not `now`: a slow disk would leave no time to train
        if stop_requests:
            message = f"stopped after {iteration} meta-iterations; the same command continues from there"
            raise Stopped(message, stop_requests[0])

    on_gpu = run.generator.device.type == "cuda" and world_size == 1
    meta_train_here = meta_train_on_gpu if on_gpu else meta_train
    options = {} if on_gpu else {"adapt": adapt_shared if world_size > 1 else adapt_together}
    with (
        collect_stop_requests() as stop_requests,
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stderr(nowhere if rank else sys.stderr),  # one progress bar is enough
    ):
        try:
            meta_train_here(
                run.model, run.learner, tasks, settings.inner, meta_iterations=end, meta_batch=settings.meta_batch,
                epsilon=settings.epsilon, generator=run.generator, callback=after_meta_iteration, start=start,
                **options,
            )  # fmt: skip
        except (FloatingPointError, ConnectionError) as error:
            if rank or newest["iteration"] == 0:  # no progress to keep, and the folder stays free for other settings
                raise
            save(required=True)
            message = f"{error} The state after meta-iteration {newest['iteration']} is in {run.path}."
            raise type(error)(message) from error

"""The command for long runs: python -m reptile_helpers.train --help"""

import argparse
import datetime
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from reptile_helpers import __version__
from reptile_helpers.distributed import get_rank_and_world_size, join_processes
from reptile_helpers.files import write_atomically
from reptile_helpers.interrupts import RefusedRun, Stopped
from reptile_helpers.measure import TEST_SEED, measure
from reptile_helpers.run import CURVE_TASKS, train
from reptile_helpers.settings import DATA, PAPER_5WAY, PAPER_20WAY, SINE_EXAMPLE, RunSettings

DESCRIPTION = """\
Meta-train with Reptile, then test on new tasks. The newest state is always in RUN_DIR/checkpoint.pt. Stop the command
at any moment and start it again: it continues from there. On a finished run, it only tests again.

  python -m reptile_helpers.train --data omniglot --ways 5 --run-dir runs/omniglot_5way
  python -m reptile_helpers.train --data sine --iterations 5000 --run-dir runs/sine --device cpu

Several processes share every meta-batch when torchrun starts them (on Windows, with USE_LIBUV=0 in the environment):

  torchrun --local-addr=127.0.0.1 --nproc-per-node=2 -m reptile_helpers.train --data sine --meta-batch 2 --run-dir r
"""
CHANGES = ("iterations", "lr", "inner_steps", "inner_batch", "meta_batch", "epsilon", "shots")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description, and states the defaults."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reptile_helpers.train", description=DESCRIPTION, formatter_class=_Help
    )
    shown = argparse.SUPPRESS  # no "(default: None)" where the help already says what happens
    add = parser.add_argument
    add("--data", required=True, choices=DATA, default=shown, help="what to learn from")
    add("--ways", type=int, choices=[5, 20], help="classes per task; not for sine", default=shown)
    add("--run-dir", required=True, default=shown, help="the folder for checkpoint.pt and results.json")
    add("--seed", type=int, default=0, help="seed for weights, tasks and mini-batches")
    recipes = (PAPER_5WAY, PAPER_20WAY, SINE_EXAMPLE)
    for name in CHANGES:
        values = " / ".join(f"{getattr(recipe, name):,}" for recipe in recipes)
        kind = type(getattr(PAPER_5WAY, name))
        meaning = {"lr": "the inner learning rate", "epsilon": "the outer step size at the start, annealed to 0"}
        text = f"{meaning.get(name, name.replace('_', ' '))}; by default {values} (5-way / 20-way / sine)"
        add(f"--{name.replace('_', '-')}", type=kind, default=shown, help=text)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", type=usable_device, default=device, help="where to compute, as PyTorch names it")
    add("--dtype", choices=["float32", "float64"], default="float32", help="dtype of weights and images")
    add("--checkpoint-seconds", type=_seconds, default=180, help="seconds between checkpoints")
    add("--test-tasks", type=int, default=1000, help="number of test tasks; 0 skips the test; the paper uses 10,000")
    return parser


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, RunSettings]:
    """The command's options and the settings they describe. Ends the process with a usage message if they are wrong."""
    parser = make_parser()
    options = parser.parse_args(arguments, argparse.Namespace(ways=None))
    if options.test_tasks < 0 or options.test_tasks == 1:
        parser.error(f"--test-tasks is {options.test_tasks}; it must be 0, or at least 2 for an interval")
    if (options.data == "sine") != (options.ways is None):
        needed = "--ways must be left out" if options.data == "sine" else "--ways 5 or --ways 20 is required"
        parser.error(f"with --data {options.data}, {needed}")
    recipe = {None: SINE_EXAMPLE, 5: PAPER_5WAY, 20: PAPER_20WAY}[options.ways]
    changes = {name: value for name, value in vars(options).items() if name in CHANGES}
    try:
        return options, replace(recipe, data=options.data, seed=options.seed, **changes)
    except ValueError as problem:
        parser.error(str(problem))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and test as the options say. Exit status: 2 for wrong options, 130 or 143 if stopped, 1 if it fails."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a Windows console may not know ± or φ
    options, settings = parse(arguments)
    with use_default_dtype(getattr(torch, options.dtype)):
        with join_processes(options.device) as device:
            rank, world_size = get_rank_and_world_size()
            try:
                state = train(settings, options.run_dir, device, options.checkpoint_seconds, print_progress)
            except Stopped as stop:
                sys.exit(_tell(rank, stop, 128 + stop.signal))
            except (RefusedRun, FloatingPointError, OSError) as problem:
                sys.exit(_tell(rank, problem, 1))
        if rank == 0:
            try:
                finish(options, settings, state, device, world_size)
            except (FloatingPointError, OSError) as problem:
                sys.exit(_tell(rank, problem, 1))


def finish(options: argparse.Namespace, settings: RunSettings, state: dict, device: str, processes: int) -> None:
    """Test the checkpoint, write results.json, and print a table and where the files are."""
    run_dir = Path(options.run_dir)
    print(f"checkpoint after {state['iteration']:,} meta-iterations: {run_dir / 'checkpoint.pt'}")
    if not options.test_tasks:
        return
    results = measure(state, options.test_tasks, device)
    print_table(results, options.test_tasks, settings)
    path = run_dir / "results.json"
    report = {
        "version": __version__, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "configuration": settings.to_dict(),
        "split": {"train classes": len(state["train_classes"]), "test classes": len(state["test_classes"])},
        "meta-training": {
            "seconds": round(state["seconds"]), "machine": describe_machine(device), "processes": processes,
            "dtype": options.dtype,
        },
        "curve": state["curve"],
        "test": {"tasks": options.test_tasks, "seed": TEST_SEED, "results": results},
    }  # fmt: skip
    before = _count_test_tasks(path, settings, options.dtype)
    if before > options.test_tasks:
        print(f"not written: {path} holds a test with more tasks ({before:,})")
        return
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
    print(f"results: {path}")


def print_table(results: dict, tasks: int, settings: RunSettings) -> None:
    """One line per mode, one column per number of shots, with 95 % intervals."""
    scale, digits, unit = (1, 3, "squared error") if settings.data == "sine" else (100, 2, "accuracy in %")
    source = " on GENERATED characters (not Omniglot)" if settings.data == "generated" else ""
    print(f"{unit}{source}, mean and 95 % interval over {tasks:,} test tasks, test seed {TEST_SEED}")
    print(f"{'':22}" + "".join(f"{shots:20}" for shots in results))
    for mode in next(iter(results.values())):
        pairs = (result[mode] for result in results.values())
        cells = (f"{scale * mean:.{digits}f} ± {scale * half:.{digits}f}" for mean, half in pairs)
        print(f"{mode:22}" + "".join(f"{cell:20}" for cell in cells))


def print_progress(iteration: int, mean: float, half: float) -> None:
    """A point of the learning curve, above the progress bar."""
    text = f"after {iteration:,} meta-iterations: {mean:.3f} ± {half:.3f} on {CURVE_TASKS} test tasks"
    tqdm.write(text, file=sys.stderr)


def usable_device(name: str) -> str:
    """The device's name, if PyTorch can really compute there; for argparse."""
    try:
        torch.Generator(name)
        (torch.zeros(1, device=name) + 1).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120]
        raise argparse.ArgumentTypeError(f"PyTorch cannot use {name!r} here: {reason}") from error
    return name


def describe_machine(device: str) -> str:
    """The processor and PyTorch's version, for a report."""
    kind = torch.device(device).type
    threads = f"{kind.upper()}, threads: {torch.get_num_threads()}"
    name = torch.cuda.get_device_name(device) if kind == "cuda" else threads
    return f"{name}, torch {torch.__version__}"


@contextmanager
def use_default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """PyTorch's default dtype for a while: that of all weights and tasks made in the meantime."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not possible; it must be a finite number of seconds, at least 0")
    return seconds


def _count_test_tasks(path: Path, settings: RunSettings, dtype: str) -> int:
    """How many tasks the test in results.json has, if it is of a run with these settings and dtype."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        described = report["configuration"], report["meta-training"].get("dtype", dtype)
        return report["test"]["tasks"] if described == (settings.to_dict(), dtype) else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _tell(rank: int, problem: BaseException, status: int) -> int:
    if rank == 0:  # one process speaks for all
        print(problem, file=sys.stderr)
    return status


if __name__ == "__main__":
    main()

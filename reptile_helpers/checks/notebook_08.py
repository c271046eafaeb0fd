"""Checks for the exercises of notebook 08."""

import copy
import math
import os
import sys
import tempfile
from pathlib import Path

import torch

from reptile_helpers.checks.exercise import exercise, require


def _needed_tasks(spread, half):
    return math.ceil((1.96 * spread / half) ** 2)


@exercise(reference=_needed_tasks)
def needed_tasks(f):
    for spread, half in ((7.0, 0.5), (0.3, 0.01), (20.0, 3.0), (8.0, 0.98)):
        n = f(spread, half)
        require(n == int(n), f"{n} is not a whole number of tasks")
        exact = [(z * spread / half) ** 2 for z in (1.96, 1.959964)]
        require(n != math.ceil((spread / half) ** 2), "that is for one standard error; a 95 % interval needs 1.96")
        require(n != math.ceil(exact[0] ** 0.5), "the half-width shrinks with the root of n: is a square missing?")
        require(n >= min(exact), f"with {n} tasks the half-width is still a little more than {half}; round up")
        require(
            n in [math.ceil(number) for number in exact],
            f"{n} tasks are enough for a half-width of {half}, but {math.ceil(exact[0])} are as well",
        )


class _Watch:
    """What happens to one file while a function runs, as Python's audit events tell it."""

    current = None

    def __init__(self, path):
        self.path, self.written, self.removed, self.replaced_by = path, False, False, []

    def __enter__(self):
        if not getattr(_Watch, "installed", False):  # a hook cannot be removed: one for all, idle without a _Watch
            sys.addaudithook(_Watch.hook)
            _Watch.installed = True
        _Watch.current = self
        return self

    def __exit__(self, *_):
        _Watch.current = None

    def is_path(self, name):
        return isinstance(name, str | bytes | os.PathLike) and Path(os.fsdecode(name)).absolute() == self.path

    @staticmethod
    def hook(event, arguments):
        watch = _Watch.current
        if watch is None or event not in ("open", "os.rename", "os.remove"):
            return
        if event == "open" and watch.is_path(arguments[0]):
            writing = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND
            watch.written |= bool((arguments[2] or 0) & writing)
        if event == "os.remove" and watch.is_path(arguments[0]):
            watch.removed = True
        if event == "os.rename" and watch.is_path(arguments[1]):
            source = Path(os.fsdecode(arguments[0])).absolute()
            _Watch.current = None  # to read the file is an event, too
            try:
                watch.replaced_by.append((source.parent, source.read_bytes()))
            finally:
                _Watch.current = watch


@exercise
def write_atomically(f):
    def failing(file):
        file.write(b"half of the new")
        file.flush()
        raise OSError("disk full")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "state.bin"
        for content in (b"old", b"new"):
            with _Watch(path) as watch:
                f(path, lambda file, content=content: file.write(content))
            require(
                path.exists() and path.read_bytes() == content, "after a write that went well, path is not the new file"
            )
            require(os.listdir(folder) == ["state.bin"], f"something is left in the folder: {os.listdir(folder)}")
        try:
            f(path, failing)
        except OSError:
            failed = True
        else:
            failed = False
        require(path.exists(), "write failed, and now even the old file is gone")
        require(
            path.read_bytes() == b"new", f"write failed, and path holds {path.read_bytes()} instead of the old bytes"
        )
        require(failed, "write failed, but the caller was not told")
        require(not watch.removed, "path is removed before the new file replaces it: a kill in between leaves none")
        require(not watch.written, "path itself is opened for writing: a kill at that moment leaves half a file")
        require(watch.replaced_by, "path should get its new content in one step, with os.replace")
        place, content = watch.replaced_by[-1]
        require(
            place == path.parent, "the temporary file is in a different folder: from another disk, moving it is a copy"
        )
        require(
            content == b"new",
            f"when os.replace moves the temporary file, it holds only {len(content)} of 3 bytes; close it first",
        )

        def look(file):
            require(path.read_bytes() == b"new", "while write is at work, path should still hold the old bytes")
            file.write(b"newest")

        f(path, look)


def _practise(model, optimizer, generator, start, end):
    """A small run: inputs from the generator, and a rate that falls to 0."""
    for iteration in range(start, end):
        x = torch.randn(8, 3, generator=generator, dtype=torch.float64)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - iteration / 12)
        optimizer.step()


def _start_run(seed):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 1, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.0, 0.999))
    return model, optimizer, torch.Generator().manual_seed(seed)


@exercise
def snapshot(f):
    run = _start_run(0)
    _practise(*run, 0, 5)
    generator_before, weights_before = run[2].get_state(), copy.deepcopy(run[0].state_dict())
    saved = f(*run, 5)
    require(isinstance(saved, dict), f"return a dict, not a {type(saved).__name__}")
    missing = [key for key in ("model", "optimizer", "generator", "iteration") if key not in saved]
    require(not missing, f"resume needs {' and '.join(map(repr, missing))}, and the snapshot has none")
    require(torch.equal(run[2].get_state(), generator_before), "taking a snapshot has used up random numbers")
    _practise(*run, 5, 12)

    model, optimizer, generator = _start_run(1)
    require(isinstance(saved["generator"], torch.Tensor), '"generator" should be the state of the generator, a tensor')
    require(
        isinstance(saved["model"], dict) and isinstance(saved["optimizer"], dict),
        '"model" and "optimizer" should be what their state_dict() returns',
    )
    model.load_state_dict(saved["model"])
    require(
        all(torch.equal(p, weights_before[name]) for name, p in model.state_dict().items()),
        "the run went on, and the weights in the snapshot went with it: state_dict() returns the live tensors",
    )
    require(torch.equal(saved["generator"], generator_before), "that is not the state which the generator was in")
    state = list(saved["optimizer"].get("state", {}).values())
    require(len(state) == 2, "Adam's moments and step count are missing")
    require(
        all(int(entry["step"]) == 5 for entry in state),
        "the run went on, and Adam's step count in the snapshot went with it: state_dict() returns the live tensors",
    )
    optimizer.load_state_dict(saved["optimizer"])
    generator.set_state(saved["generator"])
    require(saved["iteration"] == 5, f'"iteration" should be 5, not {saved["iteration"]!r}')
    _practise(model, optimizer, generator, saved["iteration"], 12)
    same = all(torch.equal(p, q) for p, q in zip(model.parameters(), run[0].parameters(), strict=True))
    require(same, "the resumed run ends with different bits")

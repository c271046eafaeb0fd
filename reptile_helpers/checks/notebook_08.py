"""Checks for the exercises of notebook 08."""

import math
import os
import tempfile
from pathlib import Path

import torch

from reptile_helpers.checks.exercise import close, exercise, require


@exercise
def needed_tasks(f):
    for spread, half in ((7.0, 0.5), (0.3, 0.01), (20.0, 3.0)):
        n, expected = f(spread, half), math.ceil((1.96 * spread / half) ** 2)
        require(n == int(n), f"{n} is not a whole number of tasks")
        require(n != math.ceil((spread / half) ** 2), "that is for one standard error; a 95 % interval takes 1.96")
        require(n != math.ceil(1.96 * spread / half), "the half-width shrinks with the root of n: is a square missing?")
        require(
            1.96 * spread / n**0.5 <= half, f"with {n} tasks the half-width is {1.96 * spread / n**0.5:.4f}, not {half}"
        )
        require(n == expected, f"{n} is enough for a half-width of {half}, but {expected} is, too")


@exercise
def write_atomically(f):
    def failing(file):
        file.write(b"half of the new")
        file.flush()
        raise OSError("disk full")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.bin")
        for content in (b"old", b"new"):
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

        def look(file):
            require(path.read_bytes() == b"new", "while write is at work, path should still hold the old bytes")
            file.write(b"newest")

        f(path, look)


@exercise
def running_mean(f):
    phis = torch.randn(6, 3, 2, dtype=torch.float64)
    mean = phis[0].clone()
    for n in range(2, 7):
        before, phi = mean.clone(), phis[n - 1].clone()
        result = f(mean, phi, n)
        require(torch.equal(mean, before) and torch.equal(phi, phis[n - 1]), "a tensor that was given has changed")
        require(
            n == 2 or not close(result, (before + phi) / 2),
            "old mean and new tensor should not count the same: n − 1 to 1",
        )
        require(not close(result, before + (phi - before) / (n + 1)), "n counts the new tensor already")
        require(close(result, phis[:n].mean(0)), f"that is not the mean of the {n} tensors")
        mean = result

"""Stopping a run between two meta-iterations, and keeping two runs out of one folder."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reptile_helpers.distributed import get_rank_and_world_size


class RefusedRun(ValueError):
    """A run cannot start with these settings in this folder. Nothing has been changed."""


class Stopped(KeyboardInterrupt):
    """A run was asked to stop, and has saved its state. signal: the number of the signal that asked."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal = signal_number


@contextmanager
def lock_folder(run_dir: Path) -> Iterator[None]:
    """Keep other runs out of the folder. The operating system releases the lock even if this process is killed."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RefusedRun(f"another run is using {run_dir}; wait for it to end, or choose another folder") from None
    try:
        for half_written in run_dir.glob(".checkpoint.pt-*"):  # a killed process leaves one behind
            half_written.unlink()
        yield
    finally:
        lock.release()


@contextmanager
def collect_stop_requests() -> Iterator[list[int]]:
    """A list that receives the signals that ask the process to stop: Ctrl-C, Jupyter's stop button, `kill`.

    Python's KeyboardInterrupt could come in the middle of an outer step, and half a step must not be saved. A second
    request interrupts immediately, as usual, unless there are several processes: torchrun repeats the first one.
    Only the main thread can handle signals; in another one the list stays empty.
    """
    requests: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return

    def handle(number, _frame):
        requests.append(number)
        if get_rank_and_world_size()[1] == 1:
            restore()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        restore()

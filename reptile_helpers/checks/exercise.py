"""How an exercise is checked: the reader's function is tried on random cases, and a message says what is missing."""

import dis
import linecache
from collections.abc import Callable
from functools import partial, wraps
from traceback import walk_tb
from types import FrameType
from typing import Any

import torch


class _NotAttempted(Exception):
    pass


def exercise(check: Callable | None = None, *, reference: Callable | None = None) -> Callable:
    """Turn a check that raises into one that prints, so that the cells below an unsolved exercise still run.

    The decorated check takes the reader's function. Use it as `@exercise`, or as `@exercise(reference=function)` where
    the notebook needs what the reader writes: then the check returns the reader's function if it is correct, and
    `reference` if it is not.
    """
    if check is None:
        return partial(exercise, reference=reference)

    @wraps(check)
    def run(function: Callable) -> Callable | None:
        verdict = _verdict(check, function)
        correct = verdict.startswith("✓")
        if reference is None:
            print(verdict)
            return None
        version = "your function" if correct else "the module's own version"
        end = "" if verdict.endswith(("?", ".")) else "."
        print(f"{verdict}{end} The notebook continues with {version}.")
        return function if correct else reference

    run.reference = reference
    return run


def _verdict(check: Callable, function: Callable) -> str:
    """Try the reader's function. The answer begins with "✓ correct", "… not attempted yet" or "✗ not yet"."""

    def attempt(*args, **kwargs):
        if _is_stub(function):
            raise _NotAttempted
        result = function(*args, **kwargs)
        require(result is not None, "your function returns None: is a `return` missing?")
        if result is ...:
            raise _NotAttempted
        return result

    try:
        with torch.random.fork_rng():
            check(attempt)
    except (_NotAttempted, NotImplementedError):
        return "… not attempted yet: replace `# your code here` with your code"
    except Exception as problem:
        frames = list(walk_tb(problem.__traceback__))
        codes = [frame.f_code for frame, _ in frames]
        if codes[-1] is not require.__code__ and attempt.__code__ in codes:
            place = _place(function, frames[codes.index(attempt.__code__) + 1 :])
            return f"✗ not yet: your function raised {type(problem).__name__}: {problem}{place}"
        if isinstance(problem, AssertionError):
            return f"✗ not yet: {problem}"
        return f"✗ not yet: the check could not use what your function returned ({type(problem).__name__}: {problem})"
    return "✓ correct"


def _is_stub(function: Callable) -> bool:
    """Does the function consist of a docstring, comments, `pass` and `return None` only?"""
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    steps = list(dis.get_instructions(code))
    returned = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return {step.opname for step in steps} <= nothing and returned == [None]


def _place(function: Callable, frames: list[tuple[FrameType, int]]) -> str:
    """The last of these lines in the reader's cell, such as " (line 4: `return phi @ x`)"; empty without one."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [line for frame, line in frames if frame.f_code.co_filename == file]
    if not lines:
        return ""
    text = linecache.getline(file, lines[-1]).strip()
    return f" (line {lines[-1]}: `{text}`)" if text else f" (line {lines[-1]})"


def require(condition: Any, message: str) -> None:
    """Raise an AssertionError with the message, which is shown to the reader, unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def close(result: Any, expected: Any) -> bool:
    """Are both tensors (or numbers) of the same shape and equal to 1e-6?"""
    result, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (result, expected))
    return result.shape == expected.shape and torch.allclose(result, expected, rtol=1e-6, atol=1e-9)

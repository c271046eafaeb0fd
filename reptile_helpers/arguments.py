"""Checks of arguments, so that a wrong value is named where it was given."""

import math
import numbers
import operator


def require_whole(minimum: int = 1, **values: int) -> None:
    """Raise ValueError unless every value is a whole number of at least `minimum`.

    NumPy integers, and anything else that Python accepts as an index, are whole numbers. True, False and 2.0 are not.
    """
    for name, value in values.items():
        try:
            whole = not _is_bool(value) and operator.index(value) >= minimum
        except (TypeError, ValueError):
            whole = False
        if not whole:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {minimum}")


def require_positive(**values: float) -> None:
    """Raise ValueError unless every value is a finite real number above 0: a learning rate, a step size …"""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
            raise ValueError(f"{name} is {value!r}; it must be a positive number")


def require_fraction(**values: float) -> None:
    """Raise ValueError unless every value is a real number from 0 to 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value <= 1:
            raise ValueError(f"{name} is {value!r}; it must be a number from 0 to 1")


def _is_bool(value: object) -> bool:
    """True for Python's, NumPy's and PyTorch's truth values, some of which can be used as an index."""
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))

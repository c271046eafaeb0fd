"""Checks for the exercises: each tries the reader's function on random cases and says what is missing.

A check is a public function of a file notebook_NN.py in this folder, and can be called as `checks.NAME` without being
listed here.
"""

import pkgutil
from importlib import import_module

__all__ = []
for _module in sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("notebook_")):
    _module = import_module(f"{__name__}.{_module}")
    for _name, _value in vars(_module).items():
        # Its own functions and constants, and not what it imports from elsewhere.
        if not _name.startswith("_") and (_name.isupper() or getattr(_value, "__module__", None) == _module.__name__):
            globals()[_name] = _value
            __all__.append(_name)

"""Checkpoints: everything that a run needs to go on as if nothing had happened, in one file.

A checkpoint is a dict that `torch.load(path, weights_only=True)` reads:

    phi             parameter name → tensor, in the order of `model.named_parameters()`: the initialization
    second_moment   the same names: Adam's second moments
    adam_steps      int: Adam's steps so far
    train_classes   int64: the classes that φ was trained on, counted from 0 in the order of Omniglot's numbers
    test_classes    int64: the classes that it has never seen
    configuration   dict: how the run was started, see train.py
    iteration       int: meta-iterations done
    generator       uint8: the state of the generator that everything random comes from
    curve           list of (meta-iteration, mean, half-width of the 95 % interval), see train.py
    seconds         float: how long the training has taken so far
"""

import os
import uuid
import zipfile
from pathlib import Path

import torch

from reptile_helpers.reptile import Learner

KEYS = {
    "phi": dict, "second_moment": dict, "adam_steps": int, "train_classes": torch.Tensor, "test_classes": torch.Tensor,
    "configuration": dict, "iteration": int, "generator": torch.Tensor, "curve": list, "seconds": float,
}  # fmt: skip
PRETRAINED = Path(__file__).parent / "pretrained"


def save_checkpoint(path, state):
    """Write the dict to `path`: afterwards the file is the new one or the old one as a whole, whatever happens."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path):
    """The dict of a checkpoint, all tensors on the CPU. Nothing in the file is executed.

    Raises FileNotFoundError, or ValueError if the file is damaged or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the check sums
            damaged = archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch have many, and their texts help nobody
        raise ValueError(f"{path} is damaged, or is not a checkpoint: {type(error).__name__}.") from error
    if damaged:
        raise ValueError(f"{path} is damaged: the check sum of {damaged} is wrong.")
    wrong = [key for key, kind in KEYS.items() if not isinstance(state, dict) or not isinstance(state.get(key), kind)]
    if wrong or list(state["phi"]) != list(state["second_moment"]):
        raise ValueError(f"{path} is not a checkpoint of reptile_helpers: {', '.join(wrong) or 'names'} wrong.")
    return state


def learner_of(state, device="cpu"):
    """The meta-trained Learner in a checkpoint, on a device."""
    weights, moments = ({name: t.to(device) for name, t in state[key].items()} for key in ("phi", "second_moment"))
    return Learner(weights, moments, state["adam_steps"])


def load_pretrained(name):
    """A checkpoint that ships with the package, such as "omniglot_5way"."""
    names = sorted(path.stem for path in PRETRAINED.glob("*.pt"))
    if name not in names:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(names)}")
    return load_checkpoint(PRETRAINED / f"{name}.pt")

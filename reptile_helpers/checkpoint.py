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

import hashlib
import io
import os
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path

import torch

from reptile_helpers.reptile import Learner

KEYS = {
    "phi": dict, "second_moment": dict, "adam_steps": int, "train_classes": torch.Tensor, "test_classes": torch.Tensor,
    "configuration": dict, "iteration": int, "generator": torch.Tensor, "curve": list, "seconds": float,
}  # fmt: skip
PRETRAINED = Path(__file__).parent / "pretrained"
# Of the files that ship with the package.
SHA256 = {
    "omniglot_5way": "04979dd1eecf2ef76453646eb5ca5e3ce0b08395d85c0b7255162c6689a52fc0",
    "omniglot_20way": "daa4a92470e2a25a766fa60776d50d92c68960696aedd7b6892017d0d610a8bb",
}


def save_checkpoint(path, state):
    """Write the dict to `path`: afterwards the file is the new one or the old one as a whole, whatever happens.

    Raises OSError if it cannot be written: a full disk, a folder that is read-only or gone.
    """
    path, content = Path(path), io.BytesIO()
    torch.save(state, content)  # not into the file: torch would hide why writing failed
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        before = "the one before is still there" if path.exists() else "there is none from before"
        problem = f"{error.strerror}: the checkpoint cannot be written, {before}"
        raise OSError(error.errno, problem, str(path)) from error
    finally:
        with suppress(OSError):  # on a read-only disk there is nothing to remove
            temporary.unlink()


def load_checkpoint(path):
    """The dict of a checkpoint, all tensors on the CPU. Nothing in the file is executed.

    Raises FileNotFoundError, or ValueError if the file is damaged or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the check sums
            inflated = sum(member.file_size for member in archive.infolist()) > size  # torch.save never compresses
            damaged = "its size" if inflated else archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch have many, and their texts help nobody
        raise ValueError(f"{path} is damaged, or is not a checkpoint: {type(error).__name__}.") from error
    if damaged:
        raise ValueError(f"{path} is damaged: {damaged} does not fit its contents.")
    wrong = [key for key, kind in KEYS.items() if not isinstance(state, dict) or not isinstance(state.get(key), kind)]
    if not wrong and shapes(state["phi"]) != shapes(state["second_moment"]):
        wrong = ["phi and second_moment"]
    if wrong:
        raise ValueError(f"{path} is not a checkpoint of reptile_helpers: {', '.join(wrong)} wrong.")
    return state


def shapes(weights):
    """What the weights, or anything like them, look like: a list of (name, shape, dtype)."""
    return [(name, list(p.shape), p.dtype) for name, p in weights.items()]


def learner_of(state, device="cpu"):
    """The meta-trained Learner in a checkpoint, on a device."""
    weights, moments = ({name: t.to(device) for name, t in state[key].items()} for key in ("phi", "second_moment"))
    return Learner(weights, moments, state["adam_steps"])


def load_pretrained(name):
    """A checkpoint that ships with the package, such as "omniglot_5way".

    Raises ValueError for another name, or if the file is not the one that was published.
    """
    if name not in SHA256:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(SHA256)}")
    path = PRETRAINED / f"{name}.pt"
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[name]:
        raise ValueError(f"{path} is not the file that was published: its SHA-256 is another. Install it anew.")
    return load_checkpoint(path)

"""Checkpoints: one file with everything that a run needs to continue as if nothing had happened.

A checkpoint is a dict that `torch.load(path, weights_only=True)` reads:

    phi             parameter name → tensor, in the order of `model.named_parameters()`: the initialization
    second_moment   the same names: Adam's second moments
    adam_steps      int: Adam's steps so far
    train_classes   int64: the classes that φ was trained on, counted from 0 in the order of Omniglot's numbers
    test_classes    int64: the classes that it has never seen
    configuration   dict: the settings of the run, see settings.py
    iteration       int: meta-iterations done
    generator       uint8: the state of the generator that everything random comes from
    curve           list of (meta-iteration, mean, half-width of the 95 % interval), see run.py
    seconds         float: how long the training has taken so far
"""

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import torch

from reptile_helpers.files import write_atomically
from reptile_helpers.learner import Learner, Weights
from reptile_helpers.settings import RunSettings

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


def save_checkpoint(path: str | os.PathLike, state: dict) -> None:
    """Write the dict to `path`: afterwards the file is the complete new one or the complete old one, whatever happens.

    Raises OSError if it cannot be written: the disk is full, or the folder is read-only or gone.
    """
    content = io.BytesIO()
    torch.save(state, content)  # not into the file: torch would hide why writing failed
    write_atomically(path, content.getbuffer())


def load_checkpoint(path: str | os.PathLike) -> dict:
    """The dict of a checkpoint, all tensors on the CPU. Nothing in the file is executed.

    Raises FileNotFoundError, or ValueError if the file is damaged or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
            inflated = sum(member.file_size for member in archive.infolist()) > size  # torch.save never compresses
            damaged = "its size" if inflated else archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile, pickle and torch raise many, and their texts do not help
        raise ValueError(f"{path} is damaged, or is not a checkpoint: {type(error).__name__}.") from error
    if damaged:
        raise ValueError(f"{path} is damaged: {damaged} does not fit its contents.")
    wrong = [key for key, kind in KEYS.items() if not isinstance(state, dict) or not isinstance(state.get(key), kind)]
    if not wrong and describe_shapes(state["phi"]) != describe_shapes(state["second_moment"]):
        wrong = ["phi and second_moment"]
    if wrong:
        raise ValueError(f"{path} is not a checkpoint of reptile_helpers: {', '.join(wrong)} missing or wrong.")
    return state


def describe_shapes(weights: Weights) -> list[tuple]:
    """(name, shape, dtype) of each tensor, to compare two networks."""
    return [(name, list(p.shape), p.dtype) for name, p in weights.items()]


def settings_of(state: dict) -> RunSettings:
    """The settings of the run in a checkpoint. Raises ValueError if this version does not know one of them."""
    return RunSettings.from_dict(state["configuration"])


def learner_of(state: dict, device: str = "cpu") -> Learner:
    """The meta-trained Learner in a checkpoint, on a device."""
    weights, moments = ({name: t.to(device) for name, t in state[key].items()} for key in ("phi", "second_moment"))
    return Learner(weights, moments, state["adam_steps"])


def learner_for_test(state: dict, device: str = "cpu") -> Learner:
    """The Learner in a checkpoint, with Adam's second moments scaled to the mini-batches at test time.

    The authors sum the losses of a mini-batch; we average them. At test time mini-batches are smaller. With sums, they
    give smaller gradients relative to the carried moments, and hence smaller steps. With means we get the same effect
    by enlarging the moments.
    """
    settings, learner = settings_of(state), learner_of(state, device)
    scale = (settings.inner_batch / settings.test_batch) ** 2
    return replace(learner, second_moment={name: scale * v for name, v in learner.second_moment.items()})


def load_pretrained(name: str) -> dict:
    """A checkpoint that ships with the package, such as "omniglot_5way".

    Raises ValueError for another name, or if the file is not the one that was published.
    """
    if name not in SHA256:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(SHA256)}")
    path = PRETRAINED / f"{name}.pt"
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[name]:
        raise ValueError(f"{path} is not the published file: its SHA-256 differs. Install reptile_helpers again.")
    return load_checkpoint(path)

"""Omniglot as one tensor: from the disk or from the internet, and after that from one file that loads in a moment.

Omniglot (https://github.com/brendenlake/omniglot, MIT licence) is by Lake, Salakhutdinov and Tenenbaum,
"Human-level concept learning through probabilistic program induction", Science 350 (2015). It has 1,623 characters of
50 alphabets, each drawn once by 20 people.
"""

import hashlib
import io
import os
import socket
import tempfile
import warnings
import zipfile
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from reptile_helpers.files import find_data_root, write_atomically
from reptile_helpers.generated import IMAGE_SIZE
from reptile_helpers.omniglot_files import DRAWINGS, FOLDER, SETS, DrawingSet, damage, find_sets

CACHE = "omniglot-28x28.cache"
TIMEOUT = 10  # seconds without an answer before a download counts as failed
ADDRESS = "https://github.com/brendenlake/omniglot/tree/master/python"


class OmniglotNotFound(FileNotFoundError):
    """Nothing of Omniglot is on this machine, and it cannot be downloaded."""


def load_omniglot(root: str | os.PathLike | None = None) -> tuple[Tensor, list[str]]:
    """Load Omniglot from the data folder, or download it into this folder first.

    root: the data folder, see `files.find_data_root`. Omniglot may lie there as torchvision leaves it, in
    `omniglot-py/`, but also directly, a folder deeper, or as the two ZIP archives of its authors.

    Returns the images, uint8 [1623, 20, 28, 28] with paper 255 and ink 0, in the order of Omniglot's numbers 0001 to
    1623, and the name of each character, "Alphabet/character01".

    Raises OmniglotNotFound if nothing of Omniglot is there and it cannot be downloaded, FileNotFoundError if only a
    part is there and the rest cannot be downloaded, ValueError if a part is damaged, PermissionError if a download is
    needed and `root` cannot be written, and all that `find_data_root` raises.
    """
    root = find_data_root(root)
    cached = _read_cache(root / CACHE)
    if cached is not None:
        return cached
    found, notes = find_sets(root)
    if len(found) < len(SETS):
        reason = _download([part for part in SETS if part not in found], root)
        if reason is None:
            found, notes = find_sets(root)
    missing = [part for part in SETS if part not in found]
    if missing:
        error = FileNotFoundError if found or notes else OmniglotNotFound
        raise error(_explain_missing(root, missing, notes, reason or f"{root / FOLDER} could not be filled"))
    images, names = _read(list(found.values()))
    _write_cache(root / CACHE, images, names)
    return images, names


def _explain_missing(root: Path, missing: list[str], notes: list[str], reason: str) -> str:
    what = "Omniglot" if len(missing) == len(SETS) else f"{missing[0]}, a part of Omniglot,"
    archives = " and ".join(f"{part}.zip" for part in missing)
    return " ".join([
        f"{what} is neither in {root} nor can it be downloaded ({reason}).",
        *notes,
        f"Connect to the internet and run this again, or put {archives} from {ADDRESS}, packed or unpacked, into "
        f"{root / FOLDER}, or set REPTILE_DATA to a folder that has Omniglot in it.",
    ])  # fmt: skip


def _download(parts: list[str], root: Path) -> str | None:
    """Download sets to `root`. Return None, or the reason why that was not possible."""
    try:
        # Everything is downloaded in here: whatever goes wrong, nothing half-written can be mistaken for Omniglot.
        temporary = tempfile.TemporaryDirectory(prefix=".omniglot-download-", dir=root, ignore_cleanup_errors=True)
    except OSError as error:
        raise PermissionError(
            f"{root} does not contain Omniglot and cannot be written ({error.strerror}); set REPTILE_DATA to a folder "
            "that can be written, or to one that has Omniglot in it"
        ) from error
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision has no argument for it, and would wait forever
    try:
        with temporary:
            from torchvision.datasets import Omniglot  # its import takes seconds and is needed only once

            for part in parts:
                Omniglot(temporary.name, background=part == "images_background", download=True)
            _move(Path(temporary.name, FOLDER), root / FOLDER, parts)
    except (ImportError, OSError, RuntimeError, HTTPException) as error:  # RuntimeError: a wrong checksum
        return f"{type(error).__name__}: {error}"
    finally:
        socket.setdefaulttimeout(timeout)
    return None


def _move(source: Path, target: Path, parts: list[str]) -> None:
    """Move a finished download into place, next to what may be there already."""
    try:
        os.replace(source, target)
    except OSError:
        if not target.is_dir():
            raise
        for part in parts:
            try:
                os.replace(source / part, target / part)
            except OSError:
                if not (target / part).is_dir():  # if it is there, another process was faster; its copy is as good
                    raise


def _read(sets: list[DrawingSet]) -> tuple[Tensor, list[str]]:
    characters = [(name, paths, place) for place, characters in sets for name, paths in characters]
    images = np.empty((len(characters), DRAWINGS, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    for label, (_, paths, place) in enumerate(tqdm(characters, desc="Reading Omniglot", unit="character")):
        for person, path in enumerate(paths):
            images[label, person] = _read_drawing(path, place)
    return torch.from_numpy(images), [name for name, *_ in characters]


def _read_drawing(path: Path | zipfile.Path, place: Path) -> np.ndarray:
    try:
        with path.open("rb") as file, Image.open(file) as image:
            kind = f"{image.width}x{image.height} pixels, mode {image.mode}"
            if kind == "105x105 pixels, mode 1":
                # Pillow resizes one-bit images with nearest neighbour in any case, and so did the authors of Reptile.
                return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST)) * np.uint8(255)
    except Exception as error:  # Pillow and zipfile raise many kinds for a damaged file
        if isinstance(error, OSError) and error.errno:  # a permission or a disk, which deleting files would not cure
            raise
        raise damage(place, f"{path} cannot be read as an image ({error})") from error
    raise damage(place, f"{path} has {kind}; it must have 105x105 pixels, mode 1 (one bit)")


def _read_cache(path: Path) -> tuple[Tensor, list[str]] | None:
    """The file is a SHA-256 and what it was computed from, so that any damage is found before anything is parsed."""
    if not path.exists():
        return None
    try:
        content = path.read_bytes()
        digest, saved = content[:32], content[32:]
        if hashlib.sha256(saved).digest() != digest:
            raise ValueError("wrong digest")
        saved = torch.load(io.BytesIO(saved), weights_only=True)
        images, names = saved["images"], saved["names"]
        if images.dtype != torch.uint8 or images.shape != (sum(SETS.values()), DRAWINGS, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError("wrong images")
        if len(names) != len(images):
            raise ValueError("wrong names")
    except Exception:  # pickle and torch raise many kinds; in any case the drawings themselves are the better source
        warnings.warn(f"The cache {path} is damaged and will be built again.", stacklevel=4)
        return None
    return images, names


def _write_cache(path: Path, images: Tensor, names: list[str]) -> None:
    buffer = io.BytesIO()
    torch.save({"images": images, "names": names}, buffer)
    saved = buffer.getvalue()
    try:
        write_atomically(path, hashlib.sha256(saved).digest() + saved)
    except OSError as error:
        warnings.warn(
            f"The cache cannot be written, so every load will take as long as this one: {error}", stacklevel=4
        )

"""A set of handwritten characters as one tensor: Omniglot, or generated characters where there is no network.

Omniglot (https://github.com/brendenlake/omniglot, MIT licence) is by Lake, Salakhutdinov and Tenenbaum,
"Human-level concept learning through probabilistic program induction", Science 350 (2015): 1,623 characters of
50 alphabets, each drawn once by 20 people.
"""

import hashlib
import html
import io
import os
import random
import socket
import sys
import tempfile
import uuid
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from reptile_helpers.generated import generate_characters

OMNIGLOT = "Omniglot"
GENERATED = "GENERATED characters (not Omniglot)"
SETS = {"images_background": 964, "images_evaluation": 659}  # Omniglot's two folders and their numbers of characters
DRAWINGS = 20
PAPER_TRAINING_CLASSES = 1200
SIZE = 28  # pixels; the drawings come with 105
FOLDER = "omniglot-py"  # what torchvision.datasets.Omniglot calls its folder
CACHE = "omniglot-28x28.cache"
TIMEOUT = 10  # seconds without an answer before a download counts as failed


@dataclass(frozen=True, eq=False)
class Characters:
    """Drawings of characters; every character is a class.

    images: uint8 [class, drawing, 28, 28], paper 255 and ink 0, so that `images / 255` has paper 1 and ink 0.
    names: one "Alphabet/character01" per class; Omniglot's classes stand in the order of its numbers 0001 to 1623.
    name: what the drawings are, to be said beside every figure and number made from them.
    """

    images: torch.Tensor
    names: list[str]
    name: str

    @property
    def generated(self) -> bool:
        """True where these are generated characters, whose results say nothing about Omniglot."""
        return self.name == GENERATED

    @property
    def alphabets(self) -> list[str]:
        """The alphabet of every class."""
        return [name.split("/")[0] for name in self.names]

    def paper_split(self, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """The Reptile paper's split: all classes shuffled, 1,200 to train with and the other 423 to test with.

        Shuffled as in the authors' code, github.com/openai/supervised-reptile: from alphabetical order, with Python's
        `random`. With the seed 0, the default of their code, these are the characters that it trains and tests with.

        Returns two int64 tensors of classes. Raises ValueError unless there are all 1,623 classes.
        """
        order = sorted(range(len(self.names)), key=lambda label: self.names[label].split("/"))
        random.Random(seed).shuffle(order)
        return self._split(torch.tensor(order), PAPER_TRAINING_CLASSES)

    def omniglot_split(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Omniglot's own split: the 964 classes of its background set, and the 659 of its evaluation set.

        No alphabet is in both. Returns two int64 tensors of classes. Raises ValueError unless there are all 1,623.
        """
        return self._split(torch.arange(len(self.names)), SETS["images_background"])

    def _split(self, order: torch.Tensor, train: int) -> tuple[torch.Tensor, torch.Tensor]:
        if len(order) != sum(SETS.values()):
            raise ValueError(f"There are {len(order)} classes, but this split is of Omniglot's {sum(SETS.values())}.")
        return order[:train], order[train:]


def with_rotations(images: torch.Tensor) -> torch.Tensor:
    """Adds every class turned by 90, 180 and 270 degrees (counterclockwise) as new classes. For training classes only.

    images: [class, drawing, H, H]. Returns [4 * class, drawing, H, H]: all classes upright, then all at 90 degrees, ...
    Raises ValueError for any other shape.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images has shape {list(images.shape)}, but must be [class, drawing, H, H].")
    return torch.cat([images.rot90(quarter_turns, dims=(2, 3)) for quarter_turns in range(4)])


def load_characters(root: str | os.PathLike | None = None, allow_generated: bool = True) -> Characters:
    """Omniglot from the cache in `root`, else from `root/omniglot-py`, else downloaded; without a network, generated.

    root: a folder; None is the environment variable REPTILE_DATA, or where that is unset or empty, `data/` in the
    repository, or `./data` where the package was installed outside one.

    Raises FileNotFoundError or NotADirectoryError if `root` is no folder, PermissionError if it holds no Omniglot and
    cannot be written, ValueError if `root/omniglot-py` is not all of Omniglot.
    """
    root = _find_root(root)
    cached = _read_cache(root / CACHE)
    if cached is not None:
        return cached
    if not (root / FOLDER).exists():
        # Everything is downloaded in here: whatever goes wrong, nothing half-written can be taken for Omniglot.
        temporary = _temporary_folder(root)
        try:
            with temporary:
                _download(temporary.name, root / FOLDER)
        except (OSError, RuntimeError, HTTPException) as error:  # RuntimeError: torchvision on a wrong checksum
            if not allow_generated:
                raise FileNotFoundError(
                    f"Omniglot is not in {root}, nor can it be downloaded ({error}); use --data generated without it"
                ) from error
            _announce_generated(root, f"{type(error).__name__}: {error}")
            return generated_characters()
    characters = _read_folder(root / FOLDER)
    _write_cache(root / CACHE, characters)
    return characters


def generated_characters() -> Characters:
    """The generated characters that stand in for Omniglot: as many classes and drawings."""
    names = [f"Generated/character{number:04}" for number in range(1, sum(SETS.values()) + 1)]
    return Characters(generate_characters(len(names), DRAWINGS), names, GENERATED)


def _find_root(root: str | os.PathLike | None) -> Path:
    origin = "The data folder"
    if root is None and os.environ.get("REPTILE_DATA"):
        origin, root = "REPTILE_DATA", os.environ["REPTILE_DATA"]
    if root is None:
        repository = Path(__file__).resolve().parents[1]
        root = (repository if (repository / "pyproject.toml").is_file() else Path.cwd()) / "data"
        if not root.exists():
            try:
                root.mkdir(exist_ok=True)  # another process may be as quick
            except OSError as error:
                raise PermissionError(
                    f"The data folder {root} cannot be made ({error.strerror}): set REPTILE_DATA to a folder of yours."
                ) from error
    root = Path(root).expanduser().absolute()
    if not root.exists():
        raise FileNotFoundError(f"{origin} {root} does not exist: make it, or give a folder that exists.")
    if not root.is_dir():
        raise NotADirectoryError(f"{origin} {root} is a file: give a folder.")
    return root


def _temporary_folder(root: Path) -> tempfile.TemporaryDirectory:
    try:
        return tempfile.TemporaryDirectory(prefix=".omniglot-download-", dir=root)
    except OSError as error:
        raise PermissionError(
            f"{root} holds no Omniglot and cannot be written ({error.strerror}): give a folder that can, or one with "
            f"{FOLDER}/ in it."
        ) from error


def _download(temporary: str, folder: Path) -> None:
    """Downloads both of Omniglot's archives into `temporary` and moves them to `folder` when complete."""
    from torchvision.datasets import Omniglot  # takes seconds to import and is needed only once

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision has no argument for it, and would wait for ever
    try:
        for background in (True, False):
            Omniglot(temporary, background=background, download=True)
    finally:
        socket.setdefaulttimeout(timeout)
    try:
        os.replace(Path(temporary, FOLDER), folder)
    except OSError:
        if not folder.is_dir():  # if it is there, another process was quicker, and its copy is as good
            raise


def _read_folder(folder: Path) -> Characters:
    characters = _list_characters(folder)
    images = np.empty((len(characters), DRAWINGS, SIZE, SIZE), dtype=np.uint8)
    for label, (_, drawings) in enumerate(tqdm(characters, desc="Omniglot to 28×28", unit="character")):
        for person, drawing in enumerate(drawings):
            images[label, person] = _read_drawing(drawing, folder)
    return Characters(torch.from_numpy(images), [name for name, _ in characters], OMNIGLOT)


def _list_characters(folder: Path) -> list[tuple[str, list[Path]]]:
    """The name and the 20 files of every character, in the order of the numbers in the files' names."""
    found = []
    for part, expected in SETS.items():
        characters = [path for path in (folder / part).glob("*/*") if path.is_dir()]
        if len(characters) != expected:
            raise _damage(folder, folder / part, f"holds {len(characters)} characters instead of {expected}")
        for character in characters:
            drawings = sorted(character.glob("*.png"))
            number = drawings[0].name[:4] if drawings else "NNNN"
            if [path.name for path in drawings] != [f"{number}_{person:02}.png" for person in range(1, DRAWINGS + 1)]:
                problem = f"holds {len(drawings)} drawings instead of {number}_01.png to {number}_{DRAWINGS}.png"
                raise _damage(folder, character, problem)
            found.append((number, f"{character.parent.name}/{character.name}", drawings))
    found.sort()
    if [number for number, *_ in found] != [f"{number:04}" for number in range(1, len(found) + 1)]:
        raise _damage(folder, folder, f"holds drawings with other numbers than 0001 to {len(found):04}")
    return [(name, drawings) for _, name, drawings in found]


def _read_drawing(path: Path, folder: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            # Pillow resizes one-bit images with nearest neighbour in any case: so do the authors of Reptile.
            pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.NEAREST))
            found = f"{image.width}×{image.height} pixels, mode {image.mode}"
    except Exception as error:  # whatever it is that Pillow raises for a damaged file
        raise _damage(folder, path, f"cannot be read as an image ({error})") from error
    if found != "105×105 pixels, mode 1":
        raise _damage(folder, path, f"has {found} instead of 105×105 pixels, mode 1 (one bit)")
    return pixels * np.uint8(255)


def _damage(folder: Path, path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} {problem}: delete {folder} and load again to download Omniglot anew.")


def _read_cache(path: Path) -> Characters | None:
    """The file is a SHA-256 and what it was computed from, so that any damage shows before anything is parsed."""
    if not path.exists():
        return None
    content = path.read_bytes()
    digest, saved = content[:32], content[32:]
    try:
        if hashlib.sha256(saved).digest() != digest:
            raise ValueError("another digest")
        saved = torch.load(io.BytesIO(saved), weights_only=True)
        images, names = saved["images"], saved["names"]
        if images.dtype != torch.uint8 or images.shape != (sum(SETS.values()), DRAWINGS, SIZE, SIZE):
            raise ValueError("other images")
        if len(names) != len(images):
            raise ValueError("other names")
    except Exception:  # pickle and torch have many; whatever it is, the drawings themselves are the better source
        warnings.warn(f"The cache {path} is damaged and will be built again.", stacklevel=3)
        return None
    return Characters(images, names, OMNIGLOT)


def _write_cache(path: Path, characters: Characters) -> None:
    buffer = io.BytesIO()
    torch.save({"images": characters.images, "names": characters.names}, buffer)
    saved = buffer.getvalue()
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")  # so that processes may write at the same time
    try:
        try:
            temporary.write_bytes(hashlib.sha256(saved).digest() + saved)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"The cache cannot be written, so every load takes as long as this one: {error}", stacklevel=3)


def _announce_generated(root: Path, reason: str) -> None:
    """A red box in a notebook, where warnings are easily overlooked; elsewhere a warning."""
    headline = "These are GENERATED characters, NOT Omniglot."
    details = (
        f"Omniglot could not be downloaded ({reason}). To get it, connect to the internet and run this again, or put "
        f"the extracted folder in {root / FOLDER}, or set REPTILE_DATA to a folder that has {FOLDER}/ in it."
    )
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        style = "border: 4px solid #d00; padding: 1em; background: #fff; color: #000; font-weight: bold"
        box = f'<div role="alert" style="{style}"><big>{headline}</big><br>{html.escape(details)}</div>'
        display({"text/html": box, "text/plain": f"{headline} {details}"}, raw=True)  # plain: for a terminal's IPython
    else:
        warnings.warn(f"{headline} {details}", stacklevel=3)

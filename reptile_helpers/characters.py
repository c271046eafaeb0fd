"""Handwritten characters as one tensor: Omniglot, or generated characters where Omniglot cannot be had.

Every character is a class of a few-shot task. The classes can be split into those to train with and those to test with,
and rotation makes new classes.
"""

import html
import os
import random
import sys
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from reptile_helpers.arguments import require_whole
from reptile_helpers.generated import generate_characters
from reptile_helpers.omniglot import OmniglotNotFound, load_omniglot
from reptile_helpers.omniglot_files import SETS

OMNIGLOT = "Omniglot"
GENERATED = "GENERATED characters (not Omniglot)"
PAPER_TRAINING_CLASSES = 1200


@dataclass(frozen=True, eq=False)
class Characters:
    """Drawings of characters, each of which is a class.

    images: uint8 [class, drawing, 28, 28], paper 255 and ink 0, so that in `images / 255` paper is 1 and ink is 0.
    names: "Alphabet/character01" for each class. Omniglot's classes are in the order of its numbers 0001 to 1623.
    source: where the drawings come from, OMNIGLOT or GENERATED. State it with every figure and number made from them.

    Raises ValueError unless there is one name for each class.
    """

    images: Tensor
    names: list[str]
    source: str

    def __post_init__(self) -> None:
        if len(self.images) != len(self.names):
            raise ValueError(
                f"names has {len(self.names)} entries; it must have {len(self.images)}, one for each class"
            )

    @property
    def generated(self) -> bool:
        """True for generated characters. Results on them tell nothing about Omniglot."""
        return self.source == GENERATED

    @property
    def alphabets(self) -> list[str]:
        """The alphabet of each class."""
        return [name.split("/")[0] for name in self.names]

    def paper_split(self, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The Reptile paper's split: all classes shuffled, 1,200 to train with and the other 423 to test with.

        They are shuffled as in the authors' code, github.com/openai/supervised-reptile: from the alphabetical order of
        alphabets and of the characters in each, with Python's `random`. Seed 0, the default of that code, gives exactly
        the characters that it trains and tests with.

        Returns two int64 tensors of class numbers. Raises ValueError unless all 1,623 classes are there and the seed is
        a whole number of at least 0.
        """
        require_whole(minimum=0, seed=seed)
        order = sorted(range(len(self.names)), key=lambda label: self.names[label].split("/"))
        random.Random(int(seed)).shuffle(order)
        return self._split(torch.tensor(order), PAPER_TRAINING_CLASSES)

    def omniglot_split(self) -> tuple[Tensor, Tensor]:
        """Omniglot's own split: the 964 classes of its background set, and the 659 of its evaluation set.

        No alphabet is in both. Returns two int64 tensors of class numbers. Raises ValueError unless all 1,623 classes
        are there.
        """
        return self._split(torch.arange(len(self.names)), SETS["images_background"])

    def _split(self, order: Tensor, train: int) -> tuple[Tensor, Tensor]:
        if len(order) != sum(SETS.values()):
            raise ValueError(f"there are {len(order)} classes; there must be all {sum(SETS.values())} for this split")
        return order[:train], order[train:]


def with_rotations(images: Tensor) -> Tensor:
    """Add each class rotated by 90, 180 and 270 degrees (counterclockwise) as a new class. For training classes only.

    images: [class, drawing, H, H]. Returns [4 * class, drawing, H, H]: first all classes upright, then all of them
    rotated by 90 degrees, and so on. Raises ValueError for any other shape.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[2] != images.shape[3]:
        given = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images is {given}; it must be a tensor [class, drawing, H, H]")
    return torch.cat([images.rot90(quarter_turns, dims=(2, 3)) for quarter_turns in range(4)])


def load_characters(root: str | os.PathLike | None = None, allow_generated: bool = True) -> Characters:
    """Load Omniglot, downloading it if necessary. Where that is impossible, generate characters and say so in red.

    root: the data folder. None is the environment variable REPTILE_DATA, or where this is not set, `data/` in the
    repository, or `./data` where the package is installed outside it.
    allow_generated: if False, nothing is generated, and a FileNotFoundError says how to get Omniglot.

    An Omniglot that is there but damaged or incomplete is always an error, never replaced by generated characters: see
    `omniglot.load_omniglot` for all that this function raises.
    """
    try:
        images, names = load_omniglot(root)
    except OmniglotNotFound as error:
        if allow_generated:
            _announce_generated(str(error))
            return generated_characters()
        hint = (
            "To run without Omniglot, use characters.generated_characters(), or --data generated on the command line."
        )
        raise OmniglotNotFound(f"{error} {hint}") from error
    return Characters(images, names, OMNIGLOT)


def generated_characters() -> Characters:
    """Generate as many characters as Omniglot has. They are the same in every call, and so are their splits."""
    classes = sum(SETS.values())
    names = [f"Generated/character{number:04}" for number in range(1, classes + 1)]
    return Characters(generate_characters(classes), names, GENERATED)


def _announce_generated(details: str) -> None:
    """A red box in a notebook, where a warning is easily overlooked. Elsewhere a warning."""
    headline = "These are GENERATED characters, NOT Omniglot."
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        style = "border: 4px solid #d00; padding: 1em; background: #fff; color: #000; font-weight: bold"
        box = f'<div role="alert" style="{style}"><big>{headline}</big><br>{html.escape(details)}</div>'
        display({"text/html": box, "text/plain": f"{headline} {details}"}, raw=True)  # plain: for a terminal's IPython
    else:
        warnings.warn(f"{headline} {details}", stacklevel=3)

"""Drawings by hand: the strokes of a pen, and how they become images like Omniglot's.

A stroke is a list of points [x, y] with x to the right and y down, both from 0 to 1, where 1 is the side of the pad. A
drawing is a list of strokes.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from reptile_helpers.files import write_atomically
from reptile_helpers.generated import IMAGE_SIZE

SIDE = 17.0  # pixels. With the ink this becomes 18; half of Omniglot's drawings have 15 to 20
# The radius of the pen in pixels. Omniglot's characters, drawn again with it, have about 6 % more ink than before. With
# less than √½ a dot could fall between four pixels and disappear.
PEN = 0.71
SAMPLE_DRAWINGS = Path(__file__).with_name("drawings.json")

Strokes = Sequence[Sequence[Sequence[float]]]  # strokes, points, x and y


def require_strokes(strokes: Strokes) -> list[list[list[float]]]:
    """Return the strokes as lists of numbers. Raise ValueError unless they are strokes as described above."""
    try:
        if any(isinstance(value, str | bytes | Mapping) for value in (strokes, *strokes)):
            raise TypeError("text can be iterated over, but does not consist of points")
        lists = [[[float(x + 0.0), float(y + 0.0)] for x, y in stroke] for stroke in strokes]  # "0.5" + 0.0 fails
        good = all(0 <= value <= 1 for stroke in lists for point in stroke for value in point)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError("these are not strokes; a stroke must be a list of points [x, y] with numbers from 0 to 1")
    return lists


def prepare(strokes: Strokes) -> Tensor:
    """Turn a drawing into the image that the network sees: float [28, 28], paper 1 and ink 0.

    The drawing is moved to the middle, scaled so that its longer side has SIDE pixels, and drawn with a pen of radius
    PEN. Without strokes the image is all paper. Raises ValueError for anything but strokes.
    """
    strokes = require_strokes(strokes)
    lines = [(a, b) for stroke in strokes for a, b in zip(stroke, stroke[1:] or stroke, strict=False)]
    if not lines:
        return torch.ones(IMAGE_SIZE, IMAGE_SIZE)
    lines = torch.tensor(lines, dtype=torch.float32)  # [lines, start and end, x and y]
    low, high = lines.amin((0, 1)), lines.amax((0, 1))
    lines = IMAGE_SIZE / 2 + (lines - (low + high) / 2) * SIDE / (high - low).amax().clamp(min=1e-6)
    # The distance between the centre of each pixel and the nearest point of each line.
    centres = torch.arange(IMAGE_SIZE) + 0.5
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)[:, :, None]
    start, way = lines[:, 0], lines[:, 1] - lines[:, 0]
    along = ((pixels - start) * way).sum(-1) / way.square().sum(-1).clamp(min=1e-12)
    distance = (pixels - start - along.clamp(0, 1)[..., None] * way).norm(dim=-1)
    return (distance.amin(-1) > PEN).float()


def strokes_of(image: Tensor) -> list[list[list[float]]]:
    """Find strokes that draw an image again. The ink is thinned to lines of one pixel, and neighbours are connected.

    image: float [28, 28], paper 1 and ink 0. Returns one stroke for each pair of neighbouring pixels of a line, and one
    for each pixel. The ink is thinned as in Zhang and Suen, Communications of the ACM 27 (1984).

    Raises ValueError for any other image.
    """
    if not isinstance(image, Tensor) or image.shape != (IMAGE_SIZE, IMAGE_SIZE) or not image.is_floating_point():
        given = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image is {given}; it must be float [{IMAGE_SIZE}, {IMAGE_SIZE}]")
    ink = image < 0.5
    while True:
        before = ink
        for first in (True, False):
            north, _, east, _, south, _, west, _ = around = _neighbours(ink)
            count, runs = around.sum(0), (~around & around.roll(-1, 0)).sum(0)
            inside = east & south & (north | west) if first else north & west & (east | south)
            thinner = ink & ~((count >= 2) & (count <= 6) & (runs == 1) & ~inside)
            # A dot of 2×2 pixels would disappear completely. Its first pixel is kept.
            lost = ink & ~thinner & ~_neighbours(thinner).any(0)
            north, northeast, *_, west, northwest = _neighbours(lost)
            ink = thinner | lost & ~(north | northeast | west | northwest)
        if torch.equal(ink, before):
            break

    def point(x: int, y: int) -> list[float]:
        return [(x + 0.5) / IMAGE_SIZE, (y + 0.5) / IMAGE_SIZE]

    strokes = []
    _, _, east, southeast, south, southwest, _, _ = _neighbours(ink)
    for there, (dx, dy) in ((ink, (0, 0)), (east, (1, 0)), (southeast, (1, 1)), (south, (0, 1)), (southwest, (-1, 1))):
        strokes += [[point(x, y), point(x + dx, y + dy)] for y, x in (ink & there).nonzero().tolist()]
    return strokes


def _neighbours(ink: Tensor) -> Tensor:
    """The eight neighbours of each pixel, bool [8, height, width], clockwise from the north."""
    height, width = ink.shape
    padded = F.pad(ink, (1, 1, 1, 1))
    steps = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    return torch.stack([padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in steps])


def save_drawings(path: str | os.PathLike, drawings: Mapping[str, Strokes]) -> None:
    """Write drawings, name → strokes, to a JSON file, completely or not at all.

    Raises ValueError, and writes nothing, if they are not drawings; OSError if the file cannot be written.
    """
    if not isinstance(drawings, Mapping) or not all(isinstance(name, str) for name in drawings):
        raise ValueError("these are not drawings; they must be a dict from names to lists of strokes")
    content = json.dumps({name: require_strokes(strokes) for name, strokes in drawings.items()})
    write_atomically(path, content.encode("utf-8"))


def load_drawings(path: str | os.PathLike = SAMPLE_DRAWINGS) -> dict[str, list[list[list[float]]]]:
    """Read drawings, name → strokes, from a JSON file. Without a path these are the sample drawings.

    Files that an editor saved with a byte order mark or as UTF-16 are read as well. Raises FileNotFoundError, or
    ValueError if the file contains anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; save your drawings there first")
    try:
        drawings = json.loads(path.read_bytes())  # given bytes, json finds out how the text is encoded
        return {name: require_strokes(strokes) for name, strokes in drawings.items()}
    except (AttributeError, RecursionError, ValueError) as error:
        raise ValueError(
            f"{path} does not contain drawings; they must be a dict of lists of strokes, with points from 0 to 1"
        ) from error

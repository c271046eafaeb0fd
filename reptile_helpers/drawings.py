"""Drawings by hand: the strokes of a pen, and how they become pixels like Omniglot's.

A stroke is a list of points [x, y], x to the right and y down, in units of the pad's side: both from 0 to 1. A drawing
is a list of strokes.
"""

import json
from pathlib import Path

import torch
from torch.nn import functional as F

from reptile_helpers.characters import SIZE

SIDE = 17.0  # pixels; with the ink that is 18, and half of Omniglot's drawings have 15 to 20
# The radius in pixels. Omniglot's characters, drawn again, have about 6 % more ink than before. With less than √½ a dot
# could fall between four pixels, and vanish.
PEN = 0.71
SAMPLES = Path(__file__).with_name("drawings.json")


def check(strokes):
    """Raise ValueError unless these are strokes as described above."""
    try:
        good = all(0 <= x <= 1 and 0 <= y <= 1 for stroke in strokes for x, y in stroke)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError("these are no strokes: a stroke is a list of points [x, y], with numbers from 0 to 1")


def prepare(strokes):
    """What the network sees of a drawing: float [28, 28], paper 1 and ink 0; all paper if there are no strokes.

    The drawing is moved to the middle, scaled so that its larger side is SIDE, and drawn with a pen of radius PEN.
    Raises ValueError for anything but strokes.
    """
    check(strokes)
    lines = [(a, b) for stroke in strokes for a, b in zip(stroke, stroke[1:] or stroke, strict=False)]
    if not lines:
        return torch.ones(SIZE, SIZE)
    lines = torch.tensor(lines, dtype=torch.float32)  # [lines, start and end, x and y]
    low, high = lines.amin((0, 1)), lines.amax((0, 1))
    lines = SIZE / 2 + (lines - (low + high) / 2) * SIDE / (high - low).amax().clamp(min=1e-6)
    # The distance of each pixel's centre from each line: from the nearest point on it.
    centres = torch.arange(SIZE) + 0.5
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)[:, :, None]
    start, way = lines[:, 0], lines[:, 1] - lines[:, 0]
    along = ((pixels - start) * way).sum(-1) / way.square().sum(-1).clamp(min=1e-12)
    distance = (pixels - start - along.clamp(0, 1)[..., None] * way).norm(dim=-1)
    return (distance.amin(-1) > PEN).float()


def strokes_of(image):
    """Strokes that draw an image again: its ink, thinned to lines of one pixel, a stroke for each pair of neighbours.

    image: float [28, 28], paper 1 and ink 0, or there is a ValueError. Thinning is by Zhang and Suen, Communications of
    the ACM 27 (1984).
    """
    if image.shape != (SIZE, SIZE) or not image.is_floating_point():
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; it must be float [{SIZE}, {SIZE}]")
    ink = image < 0.5
    while True:
        before = ink
        for first in (True, False):
            north, _, east, _, south, _, west, _ = around = neighbours(ink)
            count, runs = around.sum(0), (~around & around.roll(-1, 0)).sum(0)
            inside = east & south & (north | west) if first else north & west & (east | south)
            thinner = ink & ~((count >= 2) & (count <= 6) & (runs == 1) & ~inside)
            # A dot of 2×2 pixels would vanish as a whole: its first pixel stays.
            lost = ink & ~thinner & ~neighbours(thinner).any(0)
            north, northeast, *_, west, northwest = neighbours(lost)
            ink = thinner | lost & ~(north | northeast | west | northwest)
        if torch.equal(ink, before):
            break
    strokes = []
    _, _, east, southeast, south, southwest, _, _ = neighbours(ink)
    for there, (dx, dy) in ((ink, (0, 0)), (east, (1, 0)), (southeast, (1, 1)), (south, (0, 1)), (southwest, (-1, 1))):
        for y, x in (ink & there).nonzero().tolist():
            strokes.append([[(x + 0.5) / SIZE, (y + 0.5) / SIZE], [(x + dx + 0.5) / SIZE, (y + dy + 0.5) / SIZE]])
    return strokes


def neighbours(ink):
    """The eight neighbours of each pixel, bool [8, height, width], clockwise from the north."""
    height, width = ink.shape
    padded = F.pad(ink, (1, 1, 1, 1))
    steps = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    return torch.stack([padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in steps])


def save_drawings(path, drawings):
    """Write drawings, name → strokes, to a JSON file. Raises ValueError, and writes nothing, if they are none."""
    for strokes in drawings.values():
        check(strokes)
    Path(path).write_text(json.dumps(drawings), encoding="utf-8")


def load_drawings(path=SAMPLES):
    """Read drawings, name → strokes, from a JSON file; without a path, the sample drawings.

    Raises FileNotFoundError, or ValueError if it holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}; drawings are saved there first.")
    try:
        drawings = json.loads(Path(path).read_text(encoding="utf-8"))
        for strokes in drawings.values():
            check(strokes)
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no drawings: they are a dict of lists of strokes, with points from 0 to 1."
        ) from error
    return drawings

"""Generated characters: an alphabet that nobody writes, for machines without a network.

They stand in for Omniglot, so that every notebook can run. A character is one to four pen strokes. A drawing of it is
those same strokes made again by an unsteady hand. All of it comes from a seed: no file is read, nothing is downloaded.
Numbers measured on generated characters are not Omniglot results.
"""

import math

import torch

SIZE = 28  # pixels on a side
STROKES = 4  # at most, per character
PIECES = 3  # a stroke is up to three pieces, each a line or an arc
SAMPLES = 72  # points along a piece: at most about a pixel apart, on the largest loops, so that a stroke has no holes
MARGIN = 1.5  # pixels that the pen stays away from the edge
CHUNK = 50  # classes made at once: bounds the memory, and ties a class to its number only


def generate_characters(classes: int = 1623, drawings: int = 20, seed: int = 0) -> torch.Tensor:
    """Draw `drawings` examples of each of `classes` made-up characters.

    Returns a uint8 tensor `[classes, drawings, 28, 28]` with paper 255 and ink 0, nothing between, like Omniglot at
    28x28. The same arguments give the same bits, whatever the state of torch's global generator, and class c is the
    same however many classes are asked for. The defaults are Omniglot's sizes.

    Raises TypeError for an argument that is not an int, and ValueError for one below its minimum: 1 for `classes` and
    `drawings`, 0 for `seed`.
    """
    for name, value, least in (("classes", classes, 1), ("drawings", drawings, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int of at least {least}, but {value!r} was given.")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, but {value} was given.")

    # Every chunk is made whole, from a seed of its own, and then cut: so class 7 of 10 is class 7 of 1,623.
    chunks = math.ceil(classes / CHUNK)
    chunk_seeds = torch.randint(2**62, (chunks,), generator=torch.Generator().manual_seed(seed)).tolist()
    images = torch.empty(classes, drawings, SIZE, SIZE, dtype=torch.uint8)
    for chunk, chunk_seed in enumerate(chunk_seeds):
        generator = torch.Generator().manual_seed(chunk_seed)
        plan = _invent(CHUNK, generator)
        points = _handwriting(plan, drawings, generator)
        radius = 0.6 + 0.3 * torch.rand(CHUNK, drawings, generator=generator)  # a pen for each drawing, fine or broad
        part = images[chunk * CHUNK : (chunk + 1) * CHUNK]
        part.copy_(_ink(points, plan["length"] > 0, radius)[: len(part)])
    return images


def _pick(values: list[float], shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Independent draws from `values`; a value listed twice comes up twice as often."""
    return torch.tensor(values)[torch.randint(len(values), shape, generator=generator)]


def _invent(n: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """What makes n characters themselves: the plan of their strokes, before any hand draws them.

    The pen is a turtle: at the start of a piece it turns by `corner`, and then it bends by `bend` (radians) along the
    piece's `length` (in units of a typical line). Steps of 45 degrees make letters; free angles would make scribbles.
    """
    turn = math.pi / 4
    each_stroke, each_piece = (n, STROKES), (n, STROKES, PIECES)

    # A stroke or piece that a character lacks has length zero: it lies where ink is anyway and leaves no trace.
    strokes = _pick([1, 2, 2, 2, 3, 3, 3, 4], (n, 1), generator)
    count = _pick([1, 1, 1, 2, 3], each_stroke, generator)  # pieces in each stroke
    count = torch.where(strokes == 1, 3, count)  # there are too few characters of one stroke with less in it
    has_stroke = torch.arange(STROKES) < strokes
    has_piece = has_stroke[..., None] & (torch.arange(PIECES) < count[..., None])

    corner = turn * _pick([0, 2, 2, -2, -2, 3, -3], each_piece, generator)
    corner[..., 0] = turn * _pick([0, 0, 0, 2, 2, 2, 1, 3], each_stroke, generator)  # to the right, down, or between
    bend = turn * _pick([0, 0, 0, 2, -2, 4, -4], each_piece, generator)
    loop = turn * _pick([0, 0, 2, -2, 4, -4, 7, -7], each_piece, generator)  # 7: nearly closed
    bend = torch.where(torch.arange(PIECES) == count[..., None] - 1, loop, bend)  # loops only where a stroke ends
    bend = bend * (torch.rand(n, 1, 1, generator=generator) < 0.7)  # some characters are all lines, like runes
    length = 0.4 + 0.8 * torch.rand(each_piece, generator=generator)
    length = has_piece * length * (1 + bend.abs() / math.pi)  # a round piece needs more line for the same reach

    # A stroke lies with its start or middle (`own`) on the start, middle or end (`at`) of an earlier one (`on`), or
    # stands off from there by a gap.
    on = torch.stack([torch.randint(max(stroke, 1), (n,), generator=generator) for stroke in range(STROKES)], 1)
    last = count * SAMPLES - 1
    at = _pick([0, 0.5, 1, 1], each_stroke, generator) * last.gather(1, on)
    own = _pick([0, 0, 0.5], each_stroke, generator) * last
    angle = 2 * math.pi * torch.rand(each_stroke, generator=generator)
    distance = 0.3 + 0.5 * torch.rand(each_stroke, generator=generator)
    distance = distance * (has_stroke & (torch.rand(each_stroke, generator=generator) < 0.3))
    gap = torch.stack([distance * angle.cos(), distance * angle.sin()], -1)

    # In pixels. A character with more in it is written larger, or it would close up into a blot.
    extent = (13 + 0.9 * has_piece.sum((1, 2))) * torch.exp(0.17 * torch.randn(n, generator=generator))
    plan = {"corner": corner, "bend": bend, "length": length, "extent": extent}
    return plan | {"on": on, "at": at.long(), "own": own.long(), "gap": gap}


def _handwriting(plan: dict[str, torch.Tensor], drawings: int, generator: torch.Generator) -> torch.Tensor:
    """Draw each plan `drawings` times with a person's jitter.

    Returns the points that the pen passes, `[n, drawings, points, 2]`: x to the right and y down, in pixels.
    """
    n, each_piece = len(plan["extent"]), (STROKES, PIECES)

    def jitter(scale: float, *shape: int) -> torch.Tensor:
        return scale * torch.randn(n, drawings, *shape, generator=generator)

    # Each stroke by itself, every corner, bend and length a little off.
    corner = plan["corner"][:, None] + jitter(0.07, *each_piece)
    bend = plan["bend"][:, None] * jitter(0.1, *each_piece).exp() + jitter(0.1, *each_piece)
    length = plan["length"][:, None] * jitter(0.13, *each_piece).exp()
    start = (corner + bend).cumsum(-1) - bend  # the heading at the start of a piece
    heading = start[..., None] + bend[..., None] * (torch.arange(SAMPLES) + 0.5) / SAMPLES
    step = length[..., None, None] / SAMPLES * torch.stack([heading.cos(), heading.sin()], -1)
    path = step.flatten(3, 4).cumsum(3)  # [n, drawings, stroke, point, 2]

    # Put together. A stroke that starts on another one's end still does so, or misses it by a little.
    miss = jitter(0.06, STROKES, 2) * (plan["length"] > 0).any(-1)[:, None, :, None]
    all_n, placed = torch.arange(n), [path[:, :, 0]]
    for stroke in range(1, STROKES):
        target = torch.stack(placed, 2)[all_n, :, plan["on"][:, stroke], plan["at"][:, stroke]]
        target = target + plan["gap"][:, None, stroke] + miss[:, :, stroke]
        own = path[all_n, :, stroke, plan["own"][:, stroke]]
        placed.append(path[:, :, stroke] + (target - own)[:, :, None])
    points = torch.cat(placed, 2)

    # The whole: slanted, rotated, stretched.
    x, y = points.unbind(-1)
    x = x + jitter(0.1, 1) * y
    angle = jitter(0.06, 1)
    points = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], -1)
    points = points * jitter(0.06, 1, 2).exp()

    # Larger or smaller, and somewhere on the paper, but never over its edge.
    low, high = points.amin(2, keepdim=True), points.amax(2, keepdim=True)
    extent = (plan["extent"][:, None] * jitter(0.12).exp()).clamp(6, SIZE - 2 * MARGIN)
    scale = extent[..., None, None] / (high - low).amax(-1, keepdim=True)
    room = SIZE / 2 - MARGIN - scale * (high - low) / 2
    centre = SIZE / 2 + jitter(1.5, 1, 2).clamp(-room, room)
    return centre + scale * (points - (low + high) / 2)


def _ink(points: torch.Tensor, has_piece: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Ink the pixels whose centre lies within a pen's `radius` `[n, drawings]` (at most 1 pixel) of one of its points.

    Only the nine pixels around a point can be that near, so the other 775 need no distance. And only the pieces that a
    character has are drawn, about a third of the points: the others would but ink the same pixels again.
    """
    n, drawings, count, _ = points.shape
    drawn = has_piece.flatten(1).repeat_interleave(SAMPLES, 1)[:, None].expand(n, drawings, count)
    drawing = torch.arange(n * drawings).view(n, drawings, 1).expand_as(drawn)[drawn]
    points, radius = points[drawn], radius.flatten()[drawing]  # one long list of points, of all the drawings
    images = torch.full((n * drawings * SIZE * SIZE,), 255, dtype=torch.uint8)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            x, y = (points.floor() + torch.tensor([dx, dy])).unbind(-1)
            near = (points[:, 0] - x - 0.5) ** 2 + (points[:, 1] - y - 0.5) ** 2 <= radius**2
            images[(drawing * SIZE * SIZE + (y * SIZE + x).long())[near]] = 0
    return images.view(n, drawings, SIZE, SIZE)

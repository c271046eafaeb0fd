"""Generated characters: made-up letters that replace Omniglot on machines without a network.

With them every notebook can run. A character is one to four pen strokes. Each drawing of it consists of the same
strokes, made by an unsteady hand. Everything is computed from a seed; no file is read and nothing is downloaded.
Numbers measured on generated characters are not Omniglot results.
"""

import math

import torch
from torch import Tensor

from reptile_helpers.arguments import require_whole

IMAGE_SIZE = 28  # pixels: the height and the width of every image of a character in this project
STROKES = 4  # at most, per character
PIECES = 3  # a stroke has up to three pieces, each of them a line or an arc
POINTS = 72  # along a piece: even on the largest loops at most about a pixel apart, so that a stroke has no holes
MARGIN = 1.5  # pixels between the pen and the edge of the image
CHUNK = 50  # classes generated at once, which limits the memory and makes a class depend on its number only


def generate_characters(classes: int = 1623, drawings: int = 20, seed: int = 0) -> Tensor:
    """Draw `drawings` examples of each of `classes` made-up characters. The defaults are Omniglot's numbers.

    Returns a uint8 tensor [classes, drawings, 28, 28] with paper 255 and ink 0 and nothing in between, like Omniglot at
    28×28 pixels. The same arguments give the same bits, whatever the state of torch's global generator. Class c is the
    same for any number of classes.

    Raises ValueError unless `classes` and `drawings` are whole numbers of at least 1, and `seed` of at least 0.
    """
    require_whole(classes=classes, drawings=drawings)
    require_whole(minimum=0, seed=seed)
    classes, drawings, seed = int(classes), int(drawings), int(seed)  # PyTorch does not accept every NumPy integer

    # Every chunk is generated whole, from its own seed, and then cut. This is why class 7 of 10 is class 7 of 1,623.
    chunks = math.ceil(classes / CHUNK)
    chunk_seeds = torch.randint(2**62, (chunks,), generator=torch.Generator().manual_seed(seed)).tolist()
    images = torch.empty(classes, drawings, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    for chunk, chunk_seed in enumerate(chunk_seeds):
        generator = torch.Generator().manual_seed(chunk_seed)
        plan = _invent(CHUNK, generator)
        points = _handwriting(plan, drawings, generator)
        # Every drawing has its own pen, fine or broad.
        radius = 0.6 + 0.3 * torch.rand(CHUNK, drawings, generator=generator)
        part = images[chunk * CHUNK : (chunk + 1) * CHUNK]
        part.copy_(_ink(points, plan["length"] > 0, radius)[: len(part)])
    return images


def _pick(values: list[float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent draws from `values`. A value that is listed twice is twice as likely."""
    return torch.tensor(values)[torch.randint(len(values), shape, generator=generator)]


def _invent(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Invent n characters: the plan of the strokes that all drawings of a character have in common.

    The pen moves like a turtle. At the start of a piece it turns by `corner`, and along the `length` of the piece (in
    units of a typical line) it bends by `bend` (both in radians). Steps of 45 degrees look like letters; arbitrary
    angles would look like scribbles.
    """
    turn = math.pi / 4
    each_stroke, each_piece = (n, STROKES), (n, STROKES, PIECES)

    # A stroke or piece that a character does not have gets length zero. It lies where there is ink anyway.
    strokes = _pick([1, 2, 2, 2, 3, 3, 3, 4], (n, 1), generator)
    count = _pick([1, 1, 1, 2, 3], each_stroke, generator)  # pieces in each stroke
    count = torch.where(
        strokes == 1, 3, count
    )  # with fewer pieces there are too few different characters of one stroke
    has_stroke = torch.arange(STROKES) < strokes
    has_piece = has_stroke[..., None] & (torch.arange(PIECES) < count[..., None])

    corner = turn * _pick([0, 2, 2, -2, -2, 3, -3], each_piece, generator)
    corner[..., 0] = turn * _pick([0, 0, 0, 2, 2, 2, 1, 3], each_stroke, generator)  # to the right, down, or in between
    bend = turn * _pick([0, 0, 0, 2, -2, 4, -4], each_piece, generator)
    loop = turn * _pick([0, 0, 2, -2, 4, -4, 7, -7], each_piece, generator)  # 7: nearly closed
    bend = torch.where(torch.arange(PIECES) == count[..., None] - 1, loop, bend)  # loops only where a stroke ends
    bend = bend * (
        torch.rand(n, 1, 1, generator=generator) < 0.7
    )  # some characters have straight lines only, like runes
    length = 0.4 + 0.8 * torch.rand(each_piece, generator=generator)
    length = has_piece * length * (1 + bend.abs() / math.pi)  # a round piece must be longer to reach as far

    # The start or middle (`own`) of a stroke lies on the start, middle or end (`at`) of an earlier stroke (`on`), or at
    # some distance from it, the gap.
    on = torch.stack([torch.randint(max(stroke, 1), (n,), generator=generator) for stroke in range(STROKES)], 1)
    last = count * POINTS - 1
    at = _pick([0, 0.5, 1, 1], each_stroke, generator) * last.gather(1, on)
    own = _pick([0, 0, 0.5], each_stroke, generator) * last
    angle = 2 * math.pi * torch.rand(each_stroke, generator=generator)
    distance = 0.3 + 0.5 * torch.rand(each_stroke, generator=generator)
    distance = distance * (has_stroke & (torch.rand(each_stroke, generator=generator) < 0.3))
    gap = torch.stack([distance * angle.cos(), distance * angle.sin()], -1)

    # In pixels. A character with more pieces is written larger, because otherwise it would become a blot.
    extent = (13 + 0.9 * has_piece.sum((1, 2))) * torch.exp(0.17 * torch.randn(n, generator=generator))
    plan = {"corner": corner, "bend": bend, "length": length, "extent": extent}
    return plan | {"on": on, "at": at.long(), "own": own.long(), "gap": gap}


def _handwriting(plan: dict[str, Tensor], drawings: int, generator: torch.Generator) -> Tensor:
    """Draw each plan `drawings` times, every time with a different unsteady hand.

    Returns the points along the path of the pen, [n, drawings, points, 2]: x to the right and y down, in pixels.
    """
    n, each_piece = len(plan["extent"]), (STROKES, PIECES)

    def jitter(scale: float, *shape: int) -> Tensor:
        return scale * torch.randn(n, drawings, *shape, generator=generator)

    # Each stroke on its own. Every corner, bend and length deviates a little from the plan.
    corner = plan["corner"][:, None] + jitter(0.07, *each_piece)
    bend = plan["bend"][:, None] * jitter(0.1, *each_piece).exp() + jitter(0.1, *each_piece)
    length = plan["length"][:, None] * jitter(0.13, *each_piece).exp()
    start = (corner + bend).cumsum(-1) - bend  # the direction at the start of a piece
    heading = start[..., None] + bend[..., None] * (torch.arange(POINTS) + 0.5) / POINTS
    step = length[..., None, None] / POINTS * torch.stack([heading.cos(), heading.sin()], -1)
    path = step.flatten(3, 4).cumsum(3)  # [n, drawings, stroke, point, 2]

    # All strokes together. A stroke that begins at the end of an earlier one does so here as well, or nearly.
    miss = jitter(0.06, STROKES, 2) * (plan["length"] > 0).any(-1)[:, None, :, None]
    all_n, placed = torch.arange(n), [path[:, :, 0]]
    for stroke in range(1, STROKES):
        target = torch.stack(placed, 2)[all_n, :, plan["on"][:, stroke], plan["at"][:, stroke]]
        target = target + plan["gap"][:, None, stroke] + miss[:, :, stroke]
        own = path[all_n, :, stroke, plan["own"][:, stroke]]
        placed.append(path[:, :, stroke] + (target - own)[:, :, None])
    points = torch.cat(placed, 2)

    # The whole character is slanted, rotated and stretched.
    x, y = points.unbind(-1)
    x = x + jitter(0.1, 1) * y
    angle = jitter(0.06, 1)
    points = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], -1)
    points = points * jitter(0.06, 1, 2).exp()

    # It is written larger or smaller, and somewhere on the paper, but never over the edge.
    low, high = points.amin(2, keepdim=True), points.amax(2, keepdim=True)
    extent = (plan["extent"][:, None] * jitter(0.12).exp()).clamp(6, IMAGE_SIZE - 2 * MARGIN)
    scale = extent[..., None, None] / (high - low).amax(-1, keepdim=True)
    room = IMAGE_SIZE / 2 - MARGIN - scale * (high - low) / 2
    centre = IMAGE_SIZE / 2 + jitter(1.5, 1, 2).clamp(-room, room)
    return centre + scale * (points - (low + high) / 2)


def _ink(points: Tensor, has_piece: Tensor, radius: Tensor) -> Tensor:
    """Ink every pixel whose centre is within `radius` [n, drawings] (at most 1 pixel) of a point on the pen's path.

    Only the nine pixels around a point can be that close, so that the distance to the other 775 is not computed. Only
    the pieces that a character has are drawn, about a third of the points. The others would not add any ink.
    Returns images, uint8 [n, drawings, 28, 28].
    """
    n, drawings, count, _ = points.shape
    drawn = has_piece.flatten(1).repeat_interleave(POINTS, 1)[:, None].expand(n, drawings, count)
    drawing = torch.arange(n * drawings).view(n, drawings, 1).expand_as(drawn)[drawn]
    points, radius = points[drawn], radius.flatten()[drawing]  # one long list of the points of all drawings
    images = torch.full((n * drawings * IMAGE_SIZE * IMAGE_SIZE,), 255, dtype=torch.uint8)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            x, y = (points.floor() + torch.tensor([dx, dy])).unbind(-1)
            near = (points[:, 0] - x - 0.5) ** 2 + (points[:, 1] - y - 0.5) ** 2 <= radius**2
            images[(drawing * IMAGE_SIZE * IMAGE_SIZE + (y * IMAGE_SIZE + x).long())[near]] = 0
    return images.view(n, drawings, IMAGE_SIZE, IMAGE_SIZE)

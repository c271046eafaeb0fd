"""Figures with a text alternative and a caption that says what they show, and the colours for them."""

import base64
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional as F

from reptile_helpers.characters import Characters
from reptile_helpers.style import BLACK, BLUE, COLORS, GRAY, GREEN, ORANGE, PINK, RED, SKY, our_style, use_style

__all__ = [
    "BLACK", "BLUE", "COLORS", "GRAY", "GREEN", "ORANGE", "PINK", "RED", "SKY",
    "freeze_layout", "image_grid", "interval_plot", "label_lines", "made_from", "our_style", "probability_rows",
    "render", "show", "use_style",
]  # fmt: skip

_PIXELS_PER_INCH = 100  # on the page, as the browser counts
_DPI = 200  # of the stored image: twice as many, for the sharp screens that most laptops have


def render(fig: Figure, alt: str, caption: str, data: Characters | None = None) -> dict[str, str]:
    """Return the figure as a MIME bundle for `display(…, raw=True)`, and close it.

    The bundle has an HTML <figure> and, for programs that show no HTML, a text.
    alt: what somebody who cannot see the figure should know. caption: what the figure shows, in one or two sentences.
    data: the characters that the figure was made from. If they are generated, the figure says so.
    """
    if data is not None and data.generated:
        fig.suptitle(data.source, color="white", backgroundcolor=RED, fontweight="bold", fontsize=10)
        alt, caption = f"{made_from(data)}{alt}", f"{made_from(data)}{caption}"
    # Neither savefig, which draws twice, nor a new canvas each time: too slow for a picture behind a slider.
    canvas = fig.canvas if isinstance(fig.canvas, FigureCanvasAgg) else FigureCanvasAgg(fig)
    fig.set_dpi(_DPI)
    canvas.draw()
    plt.close(fig)
    png = base64.b64encode(_png(np.asarray(canvas.buffer_rgba()))).decode()
    width = round(fig.get_figwidth() * _PIXELS_PER_INCH)
    html = (
        f'<figure style="margin: 0"><img width="{width}" style="max-width: 100%; height: auto" alt="{escape(alt)}" '
        f'src="data:image/png;base64,{png}"><figcaption style="max-width: 50em">{escape(caption)}</figcaption></figure>'
    )
    return {"text/html": html, "text/plain": f"Figure: {alt} {caption}"}


def made_from(data: Characters | None) -> str:
    """The beginning of a caption: a sentence if the characters are generated, and nothing if they are Omniglot's."""
    return f"Made from {data.source}. " if data is not None and data.generated else ""


def _png(rgba: np.ndarray) -> bytes:
    """A PNG file with a palette of 256 colours, a third as large as one without."""
    image = Image.fromarray(rgba).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # Each entry of the palette becomes the most frequent of its colours instead of their mean: white stays white.
    colors = rgba[::4, ::4].astype(np.int64) @ [1 << 16, 1 << 8, 1, 0]
    entries = np.asarray(image)[::4, ::4].astype(np.int64) << 24
    pairs, counts = np.unique(entries | colors, return_counts=True)
    pairs = pairs[np.argsort(counts, kind="stable")]  # where an entry occurs several times below, the last one counts
    palette = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
    palette[pairs >> 24] = np.stack([pairs >> 16 & 255, pairs >> 8 & 255, pairs & 255], axis=1)
    image.putpalette(palette.tobytes())
    file = io.BytesIO()
    image.save(file, "png", compress_level=3)
    return file.getvalue()


def show(fig: Figure, alt: str, caption: str, data: Characters | None = None) -> None:
    """Display the figure in the notebook, see `render`."""
    display(render(fig, alt, caption, data), raw=True)


def freeze_layout(fig: Figure) -> None:
    """Lay the figure out for good and close it. From then on it is drawn faster, as a slider needs it."""
    fig.set_dpi(_DPI)
    fig.canvas.draw()
    fig.set_layout_engine("none")
    plt.close(fig)


def image_grid(
    rows: Sequence[Sequence[torch.Tensor]] | torch.Tensor,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    size: float = 0.7,
) -> Figure:
    """Return a figure of images [rows, columns, height, width], with labels on the left and on top.

    The images have paper 1 (or 255) and ink 0. size: inches per image.
    Raises ValueError if there is no image, or if the number of labels is not the number of rows or columns.
    """
    if not len(rows) or not len(rows[0]):
        raise ValueError("there are no images to show")
    if len(row_labels or rows) != len(rows) or len(column_labels or rows[0]) != len(rows[0]):
        raise ValueError("there must be one label for each row and one for each column, or none at all")
    with our_style():
        fig, axes = plt.subplots(
            len(rows), len(rows[0]), squeeze=False, figsize=(size * len(rows[0]) + 1.2, size * len(rows) + 0.4)
        )
        for i, row in enumerate(rows):
            for j, image in enumerate(row):
                axes[i, j].imshow(np.asarray(image), cmap="gray", vmin=0, vmax=1 if image.is_floating_point() else 255)
                axes[i, j].set(xticks=[], yticks=[])
                axes[i, j].spines[:].set(visible=True, color="lightgray")
            if row_labels:
                axes[i, 0].set_ylabel(row_labels[i], rotation=0, ha="right", va="center", fontsize=10)
        for j, label in enumerate(column_labels or ()):
            axes[0, j].set_title(label, fontsize=10, loc="center")
    return fig


def probability_rows(ax: Axes, images: Mapping[str, torch.Tensor], probabilities: Mapping[str, torch.Tensor]) -> None:
    """Draw a row for each class: its drawings, and a bar for the probability of each label, blue for the right one.

    images: title → [rows, height, width], paper 1 and ink 0. probabilities: title → [rows, labels]; the right label of
    row n is n. Below the last row every bar has its label, from 1 on.
    Raises ValueError unless all have the same number of rows.
    """
    if len({len(column) for column in (*images.values(), *probabilities.values())}) != 1:
        raise ValueError("images and probabilities must all have the same number of rows")
    with our_style():
        x = 0.0
        for title, column in images.items():
            framed = F.pad(column, (2, 2, 2, 2), value=0.8)
            ax.imshow(framed.flatten(0, 1).numpy(), extent=(x, x + 1, -len(column), 0), cmap="gray", vmin=0, vmax=1)
            ax.annotate(title, (x + 0.5, 0), (0, 4), textcoords="offset points", ha="center", fontsize=10)
            x += 1.1
        for title, column in probabilities.items():
            (rows, labels), x = column.shape, x + 0.2
            bottom = -1 - torch.arange(rows).repeat_interleave(labels) + 0.1
            places = x + 0.3 * (torch.arange(labels).repeat(rows) + 0.5)
            colors = [BLUE if row == label else ORANGE for row in range(rows) for label in range(labels)]
            ax.vlines(places, bottom, bottom + 0.8 * column.flatten().clamp(min=0.01), colors, linewidth=8)
            ax.hlines(bottom, x, x + 0.3 * labels, color="lightgray", linewidth=1)
            ax.annotate(title, (x + 0.15 * labels, 0), (0, 4), textcoords="offset points", ha="center", fontsize=10)
            for label in range(labels):
                ax.annotate(str(label + 1), (places[label], -rows), (0, -6), textcoords="offset points", ha="center",
                            fontsize=9, color=GRAY)  # fmt: skip
            x += 0.3 * labels
        ax.set(xlim=(-0.05, x), ylim=(-rows - 0.25, 0.35), aspect="equal")
        ax.axis("off")


def interval_plot(
    results: Mapping[str, tuple[float, float]], xlabel: str, colors: Mapping[str, str] | None = None
) -> Figure:
    """Return a figure with a row for each result: its name, a dot with the 95 % interval, and the numbers.

    results: name → (mean, half-width). xlabel: what the results are. colors: name → colour; a method in
    `COLORS` has its own colour, others are blue.
    Raises ValueError if there are no results.
    """
    if not results:
        raise ValueError("there are no results to show")
    colors = COLORS | dict(colors or {})
    with our_style():
        fig, ax = plt.subplots(figsize=(7, 0.5 * len(results) + 1.1))
        usual = statistics.median_low([_decimals(half) for _, half in results.values()])
        for row, (name, (mean, half)) in enumerate(results.items()):
            ax.errorbar(mean, -row, xerr=half, fmt="o", color=colors.get(name, BLUE), capsize=4, markersize=6)
            decimals = max(usual, _decimals(half))
            text = f"{mean:.{decimals}f} ± {half:.{decimals}f}"
            ax.annotate(text, (mean, -row), (0, 8), textcoords="offset points", ha="center", fontsize=10)
        ax.set(yticks=[-row for row in range(len(results))], yticklabels=list(results))
        ax.set_xlabel(f"{xlabel}\n(lines: 95 % intervals)")
        ax.set_ylim(0.6 - len(results), 0.8)
        ax.margins(x=0.12)
        ax.grid(axis="x", alpha=0.3)
    return fig


def _decimals(half: float) -> int:
    """How many decimals an interval needs: two digits of its half-width if it begins with 1, 2 or 3, else one digit."""
    if not 0 < half < math.inf:
        return 0
    exponent = math.floor(math.log10(half))
    return min(max((1 if half < 3.5 * 10**exponent else 0) - exponent, 0), 4)


def label_lines(ax: Axes) -> None:
    """Write the label of each line at its right end, in its colour, in place of a legend.

    Call it last, when the axes have their limits. Labels that would overlap move apart, to a distance of 14 points.
    """
    ax.get_xlim(), ax.get_ylim()  # matplotlib computes limits only when somebody asks
    points = 72 / ax.figure.dpi
    ends = []
    for line in ax.lines:
        if not line.get_label().startswith("_"):
            x, y = line.get_xydata()[-1]
            ends.append([ax.transData.transform((x, y))[1] * points, x, y, line])
    place = -math.inf
    for height, x, y, line in sorted(ends, key=lambda end: end[0]):
        place = max(place + 14, height)
        ax.annotate(line.get_label(), (x, y), (6, place - height), textcoords="offset points", va="center",
                    color=line.get_color(), fontsize=10, annotation_clip=False)  # fmt: skip

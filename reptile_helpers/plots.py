"""Figures with a text alternative and a caption that says what they show."""

import base64
import io
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch.nn import functional as F

# Okabe and Ito's palette: told apart by colour-blind readers, and in print.
BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"
)  # fmt: skip

plt.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "font.size": 10,
        "legend.frameon": False,
        "lines.linewidth": 2,
    }
)


def picture(fig, alt, caption, data=None):
    """The figure as a MIME bundle for `display(…, raw=True)`: an HTML <figure>, and `alt` where there is no HTML.

    alt: what somebody who cannot see the figure should know. caption: what the figure shows, in one or two sentences.
    data: the Characters that the figure was made from; generated ones are declared on the figure.
    The figure is closed.
    """
    if data is not None and data.generated:
        fig.suptitle(data.name, color="white", backgroundcolor=RED, fontweight="bold", fontsize=10)
        alt, caption = f"Made from {data.name}. {alt}", f"Made from {data.name}. {caption}"
    file = io.BytesIO()
    # Neither savefig, which draws twice, nor a new canvas each time: too slow for a picture behind a slider.
    canvas = fig.canvas if isinstance(fig.canvas, FigureCanvasAgg) else FigureCanvasAgg(fig)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(file, "png", compress_level=1)
    plt.close(fig)
    png = base64.b64encode(file.getvalue()).decode()
    html = (
        f'<figure style="margin: 0"><img style="max-width: 100%" alt="{escape(alt)}" src="data:image/png;base64,{png}">'
        f'<figcaption style="max-width: 50em">{escape(caption)}</figcaption></figure>'
    )
    return {"text/html": html, "text/plain": f"Figure: {alt} {caption}"}


def show(fig, alt, caption, data=None):
    """Display the figure in the notebook, see `picture`."""
    display(picture(fig, alt, caption, data), raw=True)


def image_grid(rows, row_labels=None, column_labels=None, size=0.7):
    """A figure of images [rows, columns, height, width], paper 1 (or 255) and ink 0, with labels beside and above.

    Raises ValueError if there is no image, or another number of labels.
    """
    if not len(rows) or not len(rows[0]):
        raise ValueError("there are no images to show")
    if len(row_labels or rows) != len(rows) or len(column_labels or rows[0]) != len(rows[0]):
        raise ValueError("there must be a label for each row, and for each column, or none")
    fig, axes = plt.subplots(
        len(rows), len(rows[0]), squeeze=False, figsize=(size * len(rows[0]) + 1.2, size * len(rows) + 0.4)
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axes[i, j].imshow(image, cmap="gray", vmin=0, vmax=1 if image.is_floating_point() else 255)
            axes[i, j].set(xticks=[], yticks=[])
            axes[i, j].spines[:].set(visible=True, color="lightgray")
        if row_labels:
            axes[i, 0].set_ylabel(row_labels[i], rotation=0, ha="right", va="center", fontsize=9)
    for j, label in enumerate(column_labels or ()):
        axes[0, j].set_title(label, fontsize=9, loc="center")
    return fig


def settle(fig):
    """Lay the figure out for good and close it: it is drawn faster from then on, for a picture behind a slider."""
    fig.canvas.draw()
    fig.set_layout_engine("none")
    plt.close(fig)


def probability_rows(ax, images, probabilities):
    """A row for each class: drawings, and bars for the probabilities of all labels, blue for the right one.

    images: title → [rows, height, width], paper 1 and ink 0. probabilities: title → [rows, labels]; the right label of
    row n is n. Raises ValueError unless all have the same number of rows.
    """
    if len({len(column) for column in (*images.values(), *probabilities.values())}) != 1:
        raise ValueError("images and probabilities must all have the same number of rows")
    x = 0.0
    for title, column in images.items():
        framed = F.pad(column, (2, 2, 2, 2), value=0.8)
        ax.imshow(framed.flatten(0, 1), extent=(x, x + 1, -len(column), 0), cmap="gray", vmin=0, vmax=1)
        ax.annotate(title, (x + 0.5, 0), (0, 4), textcoords="offset points", ha="center", fontsize=9)
        x += 1.1
    for title, column in probabilities.items():
        (rows, labels), x = column.shape, x + 0.2
        bottom = -1 - torch.arange(rows).repeat_interleave(labels) + 0.1
        places = x + 0.3 * (torch.arange(labels).repeat(rows) + 0.5)
        colors = [BLUE if row == label else ORANGE for row in range(rows) for label in range(labels)]
        ax.vlines(places, bottom, bottom + 0.8 * column.flatten().clamp(min=0.01), colors, linewidth=8)
        ax.hlines(bottom, x, x + 0.3 * labels, color="lightgray", linewidth=1)
        ax.annotate(title, (x + 0.15 * labels, 0), (0, 4), textcoords="offset points", ha="center", fontsize=9)
        x += 0.3 * labels
    ax.set(xlim=(-0.05, x), ylim=(-rows - 0.05, 0.35), aspect="equal")
    ax.axis("off")


def interval_plot(results, xlabel):
    """Names down the side, for each a dot with its 95 % interval and the numbers. results: name → (mean, half-width).

    Returns the figure. Raises ValueError if there are no results.
    """
    if not results:
        raise ValueError("there are no results to show")
    fig, ax = plt.subplots(figsize=(7, 0.5 * len(results) + 0.9))
    for row, (mean, half) in enumerate(results.values()):
        ax.errorbar(mean, -row, xerr=half, fmt="o", color=BLUE, capsize=4, markersize=6)
        decimals = 2 if mean < 10 else 1
        text = f"{mean:.{decimals}f} ± {half:.{decimals}f}"
        ax.annotate(text, (mean, -row), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    ax.set(yticks=[-row for row in range(len(results))], yticklabels=list(results), xlabel=xlabel)
    ax.set_ylim(0.6 - len(results), 0.8)
    ax.margins(x=0.12)
    ax.grid(axis="x", alpha=0.3)
    return fig

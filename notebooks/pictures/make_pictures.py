"""Make the pictures of the README and of the notebooks' Markdown cells: python notebooks/pictures/make_pictures.py

reptile.gif, reptile.png: φ among four tasks with two weights, its inner loops and outer steps; the last frame.
loops.svg, loops_stacked.svg: inner loop and outer step as a diagram, for one task and for a meta-batch.
"""

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from reptile_helpers.plots import BLUE, GREEN, ORANGE, PINK, RED  # noqa: E402

TASK_COLORS = (ORANGE, GREEN, PINK, RED)
INK, FAINT = "#222222", "#9a9a9a"
matplotlib.rcParams.update({"svg.hashsalt": "reptile", "mathtext.fontset": "dejavusans", "savefig.facecolor": "white"})

# ---- φ among its tasks -----------------------------------------------------------------------------------------------

# A task is the line of all weights w with a · w = b: the direction of a in degrees, its length, the line's offset.
angles, lengths = np.deg2rad([15.0, 66.0, 112.0, 160.0]), np.array([1.2, 1.15, 1.0, 1.25])
offsets = np.array([-1.05, 1.2, -0.95, -1.0])
units = np.stack([np.cos(angles), np.sin(angles)], 1)
A, b = lengths[:, None] * units, lengths * offsets
START, K, ALPHA, EPSILON, OUTER_STEPS = np.array([3.5, 2.15]), 4, 0.35, 0.5, 10


def inner_loops(phi):
    """k steps of SGD from φ on each task: all positions, [k + 1, tasks, 2]."""
    path = [np.tile(phi, (len(A), 1))]
    for _ in range(K):
        w = path[-1]
        path.append(w - ALPHA * ((A * w).sum(1) - b)[:, None] * A)
    return np.stack(path)


def loss_after(phi):
    """Mean loss of the tasks at the ends of their inner loops."""
    return (0.5 * ((A * inner_loops(phi)[-1]).sum(1) - b) ** 2).mean()


def frame(phis, title, stage, inner=0, ends=False, arrow=0.0, losses=()):
    """Draw one frame. phis: φ's path so far. inner: how many inner steps. arrow: how much of the outer step."""
    fig = plt.figure(figsize=(8, 4.5), dpi=140, layout="none")
    ax = fig.add_axes((0.005, 0.01, 0.62, 0.88))
    ax.set(xlim=(-3.05, 4.25), ylim=(-2.75, 3.1), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    along = np.array([[-9.0], [9.0]])
    for task, color in enumerate(TASK_COLORS):
        line = offsets[task] * units[task] + along * np.array([-units[task, 1], units[task, 0]])
        ax.plot(*line.T, color=color, linewidth=11, alpha=0.13, zorder=0)
        ax.plot(*line.T, color=color, linewidth=2.2, zorder=1)
        spot = offsets[task] * units[task] + LABEL_AT[task] * np.array([-units[task, 1], units[task, 0]])
        ax.text(*spot, f"task {task + 1}", color=color, fontsize=12, ha="center", va="center", fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5}, zorder=2)  # fmt: skip
    ax.annotate("weight 1", (4.2, -2.7), ha="right", va="bottom", fontsize=10, color=INK)
    ax.annotate("weight 2", (-3.02, 0.2), ha="left", va="center", fontsize=10, color=INK, rotation=90)

    phi, path = phis[-1], inner_loops(phis[-1])
    trail = np.stack(phis)
    ax.plot(*trail.T, color=BLUE, linewidth=3.5, zorder=4, solid_capstyle="round")
    ax.plot(*trail[:-1].T, "o", color=BLUE, markersize=5.5, zorder=4)
    if inner:
        for task, color in enumerate(TASK_COLORS):
            ax.plot(*path[: inner + 1, task].T, "o-", color=color, linewidth=2.2, markersize=5.5, zorder=3,
                    markeredgecolor="white", markeredgewidth=0.7)  # fmt: skip
    mean = path[-1].mean(0)
    if ends:
        ax.plot(*path[-1].T, "o", color="none", markeredgecolor=INK, markersize=9, markeredgewidth=1.6, zorder=5)
        ax.plot(*mean, "x", color=INK, markersize=11, markeredgewidth=3, zorder=6)
    if arrow:
        ax.add_patch(FancyArrowPatch(phi, phi + arrow * EPSILON * (mean - phi), color=BLUE, linewidth=3.5,
                                     arrowstyle="-|>", mutation_scale=24, shrinkA=0, shrinkB=0, zorder=7))  # fmt: skip
    ax.plot(*phi, "o", color=BLUE, markersize=15, markeredgecolor="white", markeredgewidth=1.5, zorder=8)
    ax.annotate("φ", phi, (-7, 13), textcoords="offset points", ha="center", fontsize=19, color=BLUE,
                fontweight="bold", zorder=9)  # fmt: skip
    fig.text(0.02, 0.925, title, fontsize=16.5, color=INK, va="center")

    for row, (name, lines) in enumerate(STAGES.items()):
        active = stage in (name, "both")
        lines = lines if ends else lines.removesuffix(" (✕)")  # named only where it can be seen
        top = 0.80 - 0.235 * row
        fig.text(0.648, top, name, fontsize=14, color=BLUE if active else FAINT, fontweight="bold", va="center")
        fig.text(0.648, top - 0.038, lines, fontsize=12, color=INK if active else FAINT, va="top",
                 linespacing=1.25)  # fmt: skip
    small = fig.add_axes((0.70, 0.105, 0.275, 0.195))
    small.plot(range(len(losses)), losses, "o-", color=BLUE, linewidth=2, markersize=4.5)
    small.set(xlim=(-0.4, OUTER_STEPS + 0.4), ylim=(0, 1.12 * loss_after(START)), xticks=[0, 5, 10], yticks=[0])
    small.tick_params(labelsize=10, colors=INK)
    small.spines[["top", "right"]].set_visible(False)
    small.set_title("loss after the inner loops", fontsize=11, color=INK, loc="left", pad=3)
    small.set_xlabel("outer steps", fontsize=10, color=INK, labelpad=1)
    file = io.BytesIO()
    fig.savefig(file, format="png")
    plt.close(fig)
    return Image.open(file).convert("RGB")


LABEL_AT = (-2.3, 1.1, 2.4, 1.2)  # along the line
STAGES = {
    "inner loop": "from φ, a few steps of SGD\non each task",
    "outer step": "move φ towards the mean\nof the ends (✕)",
}


def animation():
    """Yields (frame, milliseconds)."""
    phis, losses = [START], [loss_after(START)]
    yield frame(phis, "Each line: all weights that solve one task", "", losses=losses), 2200
    for step in range(OUTER_STEPS):
        slow = {0: 4, 1: 2}.get(step, 1)
        title = "Practise on each task …"
        for inner in range(1, K + 1) if step < 3 else (K,):
            yield frame(phis, title, "inner loop", inner, losses=losses), 130 * slow if step < 3 else 200
        title = "… then move the start towards where practice led"
        if step < 2:
            yield frame(phis, title, "outer step", K, ends=True, losses=losses), 350 * slow
            yield frame(phis, title, "outer step", K, ends=True, arrow=0.5, losses=losses), 60 * slow
        yield frame(phis, title, "outer step", K, ends=True, arrow=1.0, losses=losses), 250 * slow
        phis = [*phis, phis[-1] + EPSILON * (inner_loops(phis[-1])[-1].mean(0) - phis[-1])]
        losses = [*losses, loss_after(phis[-1])]
    title = "From here, every task is a few steps away"
    for inner in range(K):
        yield frame(phis, title, "both", inner, losses=losses), 250
    yield frame(phis, title, "both", K, losses=losses), 7000


def save_animation():
    frames, milliseconds = zip(*animation())
    frames[-1].quantize(128, dither=Image.Dither.NONE).save(HERE / "reptile.png", optimize=True)
    palette = frames[len(frames) // 2].quantize(64, dither=Image.Dither.NONE)
    colors = palette.getpalette()
    white = 3 * max((count, index) for count, index in palette.getcolors())[1]
    palette.putpalette(colors[:white] + [255, 255, 255] + colors[white + 3 :])  # the mean of nearly white is not white
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in frames]
    images[0].save(
        HERE / "reptile.gif", save_all=True, append_images=images[1:], duration=list(milliseconds), loop=0,
        optimize=True, disposal=1,
    )  # fmt: skip
    return len(frames), sum(milliseconds) / 1000


# ---- inner loop and outer step as a diagram --------------------------------------------------------------------------


def arrow(ax, start, end, color=INK, curve=0.0, width=2.0):
    ax.add_patch(FancyArrowPatch(start, end, color=color, linewidth=width, arrowstyle="-|>", mutation_scale=16,
                                 connectionstyle=f"arc3,rad={curve}", shrinkA=0, shrinkB=0, zorder=1))  # fmt: skip


def node(ax, x, y, text="", color=INK, radius=0.3, size=17):
    fill = color if text else "white"
    ax.add_patch(plt.Circle((x, y), radius, facecolor=fill, edgecolor=color, linewidth=1.8, zorder=2))
    ax.text(x, y - 0.01, text, color="white", fontsize=size, ha="center", va="center", zorder=3)


def words(ax, x, y, text, size=12, color=INK, **more):
    ax.text(x, y, text, fontsize=size, color=color, **{"ha": "center", "va": "center", "linespacing": 1.3} | more)


def box(ax, x, y, width, height, color, **more):
    style = {"facecolor": "none", "boxstyle": "round,pad=0,rounding_size=0.15", "edgecolor": color, "linewidth": 1.2}
    ax.add_patch(FancyBboxPatch((x, y), width, height, zorder=0, **style | more))


def sheet(width, height):
    fig = plt.figure(figsize=(width, height), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return fig, ax


def draw_loops():
    """One task: φ, k steps of SGD to θ, and the outer step back."""
    fig, ax = sheet(8, 3.6)
    row, places = 1.75, (2.35, 3.5, 4.65, 5.8)
    box(ax, 1.75, 1.2, 5.75, 2.25, ORANGE, linestyle="--")
    words(ax, 1.95, 3.2, "inner loop: k steps of SGD on one task", ha="left", color="#8a5f00", fontweight="bold")
    node(ax, 0.65, row, "φ", BLUE)
    arrow(ax, (0.98, row), (2.13, row))
    words(ax, 1.33, row + 0.2, "copy", 11)
    for n, x in enumerate(places):
        node(ax, x, row, radius=0.2)
        if n < 3:
            arrow(ax, (x + 0.22, row), (x + 0.93, row), ORANGE)
            words(ax, x + 0.575, 2.72, ("batch 1", "batch 2", "…")[n], 11)
            arrow(ax, (x + 0.575, 2.55), (x + 0.575, row + 0.12), FAINT, width=1.2)
    arrow(ax, (6.02, row), (6.66, row), ORANGE)
    words(ax, 6.33, 2.72, "batch k", 11)
    arrow(ax, (6.33, 2.55), (6.33, row + 0.12), FAINT, width=1.2)
    node(ax, 7.0, row, "θ", INK)
    arrow(ax, (7.0, 1.42), (0.65, 1.42), BLUE, curve=-0.19, width=3)
    words(ax, 3.9, 0.42, "outer step:  φ ← φ + ε (θ − φ),  then the next task", 13, BLUE, fontweight="bold")
    return fig


def draw_loops_stacked():
    """A meta-batch: the same k steps for all tasks at once, as one tensor."""
    fig, ax = sheet(8, 4.1)
    rows, places = (3.05, 2.4, 1.75), (2.35, 3.5, 4.65, 5.8)
    box(ax, 1.75, 1.2, 5.75, 2.7, ORANGE, linestyle="--")
    words(ax, 1.95, 3.65, "inner loops of all tasks, stacked: one tensor, k steps", ha="left", color="#8a5f00",
          fontweight="bold")  # fmt: skip
    node(ax, 0.65, rows[1], "φ", BLUE)
    words(ax, 0.65, rows[1] + 0.52, "copy", 11)
    for x in (2.925, 4.075, 5.225, 6.33):
        box(ax, x - 0.25, rows[-1] - 0.2, 0.5, rows[0] - rows[-1] + 0.4, FAINT, facecolor="#eeeeee")
    for task, row in enumerate(rows):
        color = TASK_COLORS[task]
        arrow(ax, (0.93, rows[1] + 0.11 * (1 - task)), (2.13, row))
        for x in places:
            node(ax, x, row, radius=0.17)
            arrow(ax, (x + 0.19, row), (x + 0.95 if x < 5.5 else 6.69, row), color)
        node(ax, 6.98, row, f"θ$_{task + 1}$", INK, radius=0.27, size=13)
    arrow(ax, (6.98, 1.46), (0.65, 2.07), BLUE, curve=-0.23, width=3)
    words(ax, 3.95, 0.4, r"outer step:  φ ← φ + ε (mean of the θ − φ),  then the next meta-batch", 13, BLUE,
          fontweight="bold")  # fmt: skip
    return fig


if __name__ == "__main__":
    for name, draw in (("loops", draw_loops), ("loops_stacked", draw_loops_stacked)):
        figure = draw()
        figure.savefig(HERE / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
    print("reptile.gif: {} frames, {:.0f} seconds".format(*save_animation()))
    for path in sorted(HERE.glob("*.*")):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")

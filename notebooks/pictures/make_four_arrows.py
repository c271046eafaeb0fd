"""Make the first picture of notebook 03, four_arrows.svg: python notebooks/pictures/make_four_arrows.py

The five tasks and the four steps are those of the notebook: its cell "Show: the five tasks, …" is run here.
"""

import json
from itertools import permutations
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from torch.nn import functional as F

from reptile_helpers.plots import COLORS, GRAY, use_style

HERE = Path(__file__).resolve().parent
CELL = "# @title Show: the five tasks"
# Where the labels stand, from the tips of the arrows.
PLACES = {"joint training": (-0.12, -0.14), "Reptile": (-0.12, 0.0), "FOMAML": (-0.1, 0.1), "MAML": (0.95, 0.1)}


def draw():
    cells = json.loads((HERE.parent / "03_why_it_works.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if "".join(cell["source"]).startswith(CELL)]
    space = {"torch": torch, "F": F, "permutations": permutations}
    exec(source, space)
    phi = torch.tensor([2.2, -2.0])
    fig, ax = plt.subplots(figsize=(6.4, 4.4))
    ax.plot(*space["solutions"].T, "o", color=GRAY, markersize=7)
    ax.text(1.25, 1.53, "solution of a task", color=GRAY, va="center")
    for name, step in space["four_steps"](phi, 4, 0.1).items():
        tip = phi + 2.0 * F.normalize(step, dim=0)
        style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.7", "linewidth": 2.5, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", tip, phi, arrowprops=style | {"color": COLORS[name]})
        x, y = tip + torch.tensor(PLACES[name])
        ax.text(x, y, name, color=COLORS[name], ha="right", va="center", fontsize=13, fontweight="bold")
    ax.plot(*phi, "*", color="black", markersize=18, zorder=3)
    ax.text(2.4, -2.05, "φ", fontsize=16, va="center")
    ax.set(xlim=(-2.2, 2.9), ylim=(-2.5, 2.0), aspect="equal", xlabel="$w_1$", ylabel="$w_2$", xticks=[], yticks=[])
    return fig


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    use_style()
    matplotlib.rcParams.update({"svg.hashsalt": "reptile", "mathtext.fontset": "dejavusans"})
    draw().savefig(HERE / "four_arrows.svg", facecolor="white", metadata={"Date": None})

"""How our figures look: colours, fonts and lines.

Importing this module does not touch matplotlib's settings. A notebook calls `use_style()` once, after its imports; from
then on its own figures look like those of `plots`.
"""

from contextlib import AbstractContextManager

import matplotlib.pyplot as plt

# Okabe and Ito's palette, made darker where it was too pale on white: each colour has a contrast of at least 3 : 1, and
# colour-blind readers can still tell them apart.
BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GRAY = (
    "#004E96", "#C98400", "#009E66", "#DE62B0", "#2394E6", "#AF1B0A", "#000000", "#636363"
)  # fmt: skip

# Every method has the same colour in all notebooks.
COLORS = {
    "random": GRAY,
    "joint training": ORANGE,
    "Reptile": BLUE,
    "FOMAML": GREEN,
    "MAML": PINK,
    "nearest neighbour": SKY,
    "joint + new head": RED,
    "paper": BLACK,
}

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "font.size": 11,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 2,
}


def use_style() -> None:
    """Make all further figures of this notebook look like ours, whatever matplotlib's settings were before.

    It starts from matplotlib's defaults. Our colours are chosen for white paper: a dark style would hide black lines.
    """
    plt.style.use(["default", STYLE])


def our_style() -> AbstractContextManager:
    """A context in which figures look like ours; afterwards the settings are as before."""
    return plt.style.context(["default", STYLE])

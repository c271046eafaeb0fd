import base64
import io
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from reptile_helpers import plots
from reptile_helpers.characters import GENERATED, OMNIGLOT, Characters
from reptile_helpers.plots import (
    BLUE,
    COLORS,
    ORANGE,
    freeze_layout,
    image_grid,
    interval_plot,
    probability_rows,
    render,
)

ALT, CAPTION = 'two "lines" & <a dot>', "The upper line is <higher>."


def pixels(bundle):
    png = re.search(r'base64,([^"]+)"', bundle["text/html"])[1]
    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


def figure():
    fig, ax = plt.subplots(figsize=(4, 3))
    ax.plot([1, 2])
    return fig


def characters(name):
    return Characters(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), ["A/character01"], name)


def test_a_picture_has_an_alternative_a_caption_and_an_image():
    bundle = render(figure(), alt=ALT, caption=CAPTION)
    assert 'alt="two &quot;lines&quot; &amp; &lt;a dot&gt;"' in bundle["text/html"]
    assert "The upper line is &lt;higher&gt;.</figcaption>" in bundle["text/html"]
    assert ALT in bundle["text/plain"] and CAPTION in bundle["text/plain"]
    assert pixels(bundle).size == (800, 600) and '<img width="400"' in bundle["text/html"]  # sharp on sharp screens
    assert not plt.get_fignums(), "the figure stays open, and would be shown twice"


def test_generated_characters_are_declared_in_words_and_on_the_picture():
    plain = render(figure(), ALT, CAPTION)
    omniglot = render(figure(), ALT, CAPTION, data=characters(OMNIGLOT))
    generated = render(figure(), ALT, CAPTION, data=characters(GENERATED))
    assert omniglot == plain
    for text in (re.search(r'alt="([^"]*)"', generated["text/html"])[1], generated["text/plain"]):
        assert "GENERATED characters (not Omniglot)" in text
    assert "GENERATED" in generated["text/html"].split("<figcaption")[1]
    red = (np.asarray(pixels(generated)) == [0xAF, 0x1B, 0x0A]).all(-1).sum()
    assert red > 4000, "no banner on the picture"


def test_interval_plot_shows_each_result_at_its_place():
    fig = interval_plot({"a": (50.0, 2.0), "b": (0.111, 0.0097)}, "accuracy in %")
    (ax,) = fig.axes
    assert [t.get_text() for t in ax.texts] == ["50.0 ± 2.0", "0.111 ± 0.010"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"] == [50.0, 0.111]
    plt.close(fig)


def test_image_grid_shows_paper_white_and_ink_black():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1).expand(3, 2, 28, 28)
    for rows in (images, images / 255):
        fig = image_grid(rows, ["x", "y", "z"], ["ink", "paper"])
        shown = [ax.images[0].to_rgba(ax.images[0].get_array())[0, 0, 0] for ax in fig.axes]
        assert shown == [0, 1] * 3
        assert [ax.get_ylabel() for ax in fig.axes[::2]] == ["x", "y", "z"]
        plt.close(fig)


def test_rows_of_drawings_and_probabilities():
    images = torch.ones(3, 28, 28)
    images[1, 14] = 0
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.0, 1.0, 0.0]])
    fig, ax = plt.subplots()
    probability_rows(ax, {"support": images, "query": images}, {"step 3": probabilities})
    assert [text.get_text() for text in ax.texts] == ["support", "query", "step 3", "1", "2", "3"]
    assert len(ax.images) == 2 and ax.images[0].get_array().shape == (96, 32)
    bars = ax.collections[0]
    heights = [line[1][1] - line[0][1] for line in bars.get_segments()]
    assert torch.allclose(torch.tensor(heights).view(3, 3), 0.8 * probabilities.clamp(min=0.01).double(), atol=1e-6)
    right = [to_hex(color).upper() for color in bars.get_colors()]
    assert [right[i] for i in (0, 4, 8)] == [BLUE] * 3 and right.count(ORANGE) == 6
    bottoms = [line[0][1] for line in bars.get_segments()]
    assert bottoms[0] > bottoms[3] > bottoms[6]  # the first class is above
    plt.close(fig)


def test_a_frozen_figure_keeps_its_layout_and_can_be_drawn_again():
    fig = figure()
    freeze_layout(fig)
    assert not plt.get_fignums()
    place = fig.axes[0].get_position().bounds
    fig.axes[0].set_title("something")
    first = pixels(render(fig, alt=ALT, caption=CAPTION))
    fig.axes[0].lines[0].set_ydata([2, 1])
    second = pixels(render(fig, alt=ALT, caption=CAPTION))
    assert fig.axes[0].get_position().bounds == place and first.size == second.size == (800, 600)
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize(
    "halves, texts",
    [
        ((2.1, 0.8), ("50.0 ± 2.1", "50.0 ± 0.8")),
        ((2.1, 0.8, 0.04), ("50.0 ± 2.1", "50.0 ± 0.8", "50.00 ± 0.04")),
        ((12.34, 0), ("50 ± 12", "50 ± 0")),
        ((0.15,), ("50.00 ± 0.15",)),
        ((float("inf"),), ("50 ± inf",)),
    ],
)
def test_numbers_have_as_many_decimals_as_their_intervals_allow(halves, texts):
    fig = interval_plot({str(n): (50.0, half) for n, half in enumerate(halves)}, "accuracy in %")
    assert tuple(text.get_text() for text in fig.axes[0].texts) == texts
    plt.close(fig)


def test_the_bars_are_as_wide_as_the_intervals_and_have_the_colours_of_the_methods():
    results = {"Reptile": (50.0, 2.0), "random": (20.0, 1.5), "something else": (30.0, 3.0), "mine": (40.0, 0.5)}
    fig = interval_plot(results, "accuracy in %", colors={"mine": "#123456"})
    bars = [collection for container in fig.axes[0].containers for collection in container.lines[2]]
    for bar, (mean, half) in zip(bars, results.values(), strict=True):
        ((left, _), (right, _)) = bar.get_segments()[0]
        assert (left, right) == (mean - half, mean + half)
    colors = [to_hex(bar.get_colors()[0]).upper() for bar in bars]
    assert colors == [COLORS["Reptile"], COLORS["random"], BLUE, "#123456"]
    plt.close(fig)


def contrast_on_white(color):
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 1.05 / (0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2] + 0.05)


def test_every_colour_can_be_seen_on_white():
    names = ("BLUE", "ORANGE", "GREEN", "PINK", "SKY", "RED", "BLACK", "GRAY")
    palette = [getattr(plots, name) for name in names]
    assert min(map(contrast_on_white, palette)) >= 3
    assert (
        len({*palette}) == len(palette) and len({*COLORS.values()}) == len(COLORS) and {*COLORS.values()} <= {*palette}
    )


def test_the_stored_picture_has_the_colours_of_the_figure():
    fig, ax = plt.subplots(figsize=(4, 3))
    for n, color in enumerate(COLORS.values()):
        ax.bar(n, 1, color=color)
    stored = np.unique(np.asarray(pixels(render(fig, ALT, CAPTION))).reshape(-1, 3), axis=0)
    stored = {to_hex(color / 255).upper() for color in stored}
    assert {*COLORS.values(), "#FFFFFF"} <= stored


def test_lines_are_labelled_at_their_ends_and_labels_do_not_overlap():
    fig, ax = plt.subplots()
    for n, y in enumerate((1, 1.001, 5)):
        ax.plot([0, 1, 2], [0, 3, y], label=f"line {n}", color=["red", "green", "blue"][n])
    ax.axhline(2)  # without a label
    plots.label_lines(ax)
    assert [(t.get_text(), t.get_color(), t.xy) for t in ax.texts] == [
        ("line 0", "red", (2, 1)), ("line 1", "green", (2, 1.001)), ("line 2", "blue", (2, 5))
    ]  # fmt: skip
    fig.canvas.draw()
    low, high, _ = (text.get_window_extent() for text in ax.texts)
    assert not low.overlaps(high)
    plt.close(fig)


def test_importing_does_not_touch_the_settings_of_matplotlib():
    code = """
import matplotlib
before = dict(matplotlib.rcParams)
import reptile_helpers.plots, reptile_helpers.widgets
assert dict(matplotlib.rcParams) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("style", [{"text.color": "white"}, {"font.family": "cmr10"}, {"axes.facecolor": "black"}])
def test_figures_look_the_same_whatever_the_users_style(style):
    def drawn():
        return pixels(render(interval_plot({"a": (5, 1)}, "x"), ALT, CAPTION)).tobytes()

    plain = drawn()
    with matplotlib.rc_context(style):
        before = dict(matplotlib.rcParams)
        assert drawn() == plain
        assert dict(matplotlib.rcParams) == before
        plots.use_style()
        assert {**matplotlib.rcParams}["text.color"] == "black" and matplotlib.rcParams["font.size"] == 11

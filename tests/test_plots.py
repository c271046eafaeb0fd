import base64
import io
import re

import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from PIL import Image

from reptile_helpers.characters import GENERATED, OMNIGLOT, Characters
from reptile_helpers.plots import BLUE, ORANGE, image_grid, interval_plot, picture, probability_rows, settle

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
    bundle = picture(figure(), alt=ALT, caption=CAPTION)
    assert 'alt="two &quot;lines&quot; &amp; &lt;a dot&gt;"' in bundle["text/html"]
    assert "The upper line is &lt;higher&gt;.</figcaption>" in bundle["text/html"]
    assert ALT in bundle["text/plain"] and CAPTION in bundle["text/plain"]
    assert pixels(bundle).size == (400, 300)
    assert not plt.get_fignums(), "the figure stays open, and would be shown twice"


def test_generated_characters_are_declared_in_words_and_on_the_picture():
    plain = picture(figure(), ALT, CAPTION)
    omniglot = picture(figure(), ALT, CAPTION, data=characters(OMNIGLOT))
    generated = picture(figure(), ALT, CAPTION, data=characters(GENERATED))
    assert omniglot == plain
    for text in (re.search(r'alt="([^"]*)"', generated["text/html"])[1], generated["text/plain"]):
        assert "GENERATED characters (not Omniglot)" in text
    assert "GENERATED" in generated["text/html"].split("<figcaption")[1]
    red = [p for p in pixels(generated).getdata() if p[0] > 190 and p[1] < 120 and p[2] < 60]
    assert len(red) > 1000, "no banner on the picture"


def test_interval_plot_shows_each_result_at_its_place():
    fig = interval_plot({"a": (50.0, 2.0), "b": (0.111, 0.0097)}, "accuracy in %")
    (ax,) = fig.axes
    assert [t.get_text() for t in ax.texts] == ["50.0 ± 2.0", "0.11 ± 0.01"]
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
    assert [text.get_text() for text in ax.texts] == ["support", "query", "step 3"]
    assert len(ax.images) == 2 and ax.images[0].get_array().shape == (96, 32)
    bars = ax.collections[0]
    heights = [line[1][1] - line[0][1] for line in bars.get_segments()]
    assert torch.allclose(torch.tensor(heights).view(3, 3), 0.8 * probabilities.clamp(min=0.01).double(), atol=1e-6)
    right = [to_hex(color).upper() for color in bars.get_colors()]
    assert [right[i] for i in (0, 4, 8)] == [BLUE] * 3 and right.count(ORANGE) == 6
    bottoms = [line[0][1] for line in bars.get_segments()]
    assert bottoms[0] > bottoms[3] > bottoms[6]  # the first class is above
    plt.close(fig)


def test_a_settled_figure_keeps_its_layout_and_can_be_drawn_again():
    fig = figure()
    settle(fig)
    assert not plt.get_fignums()
    place = fig.axes[0].get_position().bounds
    fig.axes[0].set_title("something")
    first = pixels(picture(fig, alt=ALT, caption=CAPTION))
    fig.axes[0].lines[0].set_ydata([2, 1])
    second = pixels(picture(fig, alt=ALT, caption=CAPTION))
    assert fig.axes[0].get_position().bounds == place and first.size == second.size == (400, 300)
    assert first.tobytes() != second.tobytes()

"""Strokes, what the network sees of them, and files of them."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from reptile_helpers.drawings import (
    PEN,
    SIDE,
    load_drawings,
    prepare,
    require_strokes,
    save_drawings,
    strokes_of,
)
from reptile_helpers.generated import generate_characters

CORNER = [[[0.1, 0.1], [0.1, 0.3]], [[0.1, 0.3], [0.2, 0.3]]]  # an L, upright, twice as high as wide


def box(image):
    rows, columns = ((image < 0.5).any(d).nonzero()[:, 0] for d in (1, 0))
    return rows.min().item(), rows.max().item(), columns.min().item(), columns.max().item()


def test_a_drawing_is_in_the_middle_and_as_large_as_omniglots():
    top, bottom, left, right = box(prepare(CORNER))
    assert abs((top + bottom) / 2 - 13.5) <= 0.5 and abs((left + right) / 2 - 13.5) <= 0.5
    assert abs(bottom - top + 1 - SIDE) <= 2 and abs(right - left + 1 - SIDE / 2) <= 2
    assert set(prepare(CORNER).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("scale, dx, dy", [(1, 0.7, 0.5), (3, 0, 0), (0.2, 0.1, 0.8)])
def test_place_and_size_on_the_pad_do_not_matter(scale, dx, dy):
    moved = [[[scale * x + dx, scale * y + dy] for x, y in stroke] for stroke in CORNER]
    assert (prepare(moved) != prepare(CORNER)).sum() <= 4  # rounding, on the edge of the pen


def test_ink_is_what_lies_within_the_pen():
    image = prepare([[[0.2, 0.5], [0.8, 0.5]], [[0.5, 0.2], [0.5, 0.2]]])  # a level line, and a dot above its middle
    line = SIDE / 2
    for y, x in torch.cartesian_prod(torch.arange(28), torch.arange(28)).tolist():
        px, py = x + 0.5 - 14, y + 0.5 - 14
        on_line = max(abs(px) - line, 0) ** 2 + (py - line / 2) ** 2 <= PEN**2
        on_dot = px**2 + (py + line / 2) ** 2 <= PEN**2
        assert (image[y, x] == 0) == (on_line or on_dot), (x, y)


def test_nothing_and_a_dot():
    assert prepare([]).eq(1).all() and prepare([[]]).eq(1).all()
    assert 1 <= (prepare([[[0.9, 0.9]]]) == 0).sum() <= 4


def test_an_image_drawn_again_has_the_same_shape_and_as_much_ink():
    images = generate_characters(60, 1, seed=3)[:, 0] / 255
    again = torch.stack([prepare(strokes_of(image)) for image in images])
    large = torch.tensor([max(b - a, d - c) in (16, 17, 18) for a, b, c, d in map(box, images)])
    assert large.sum() > 8
    ratio = (again[large] < 0.5).sum() / (images[large] < 0.5).sum()
    assert 0.75 < ratio < 1.25
    for image, other in zip(images[large], again[large], strict=True):
        a, b = ((x < 0.5).float() for x in (image, other))
        shifts = [(a * b.roll((dy, dx), (0, 1))).sum() for dy in range(-6, 7) for dx in range(-6, 7)]
        assert max(shifts) > 0.45 * min(a.sum(), b.sum())


def test_thinning_leaves_lines_of_one_pixel():
    thick = torch.ones(28, 28)
    thick[5:9, 4:24] = 0
    strokes = torch.tensor(strokes_of(thick)) * 28
    assert strokes[..., 1].unique().numel() <= 2  # one row, or two where it ends
    assert strokes[..., 0].max() - strokes[..., 0].min() > 14


def test_thinning_leaves_a_pixel_of_every_dot():
    dots = torch.ones(28, 28)
    for n in range(1, 5):
        dots[3 : 3 + n, 6 * n - 4 : 7 * n - 4] = 0  # 1×1, 2×2, 3×3 and 4×4 pixels
        dots[12 : 12 + n, 6 * n - 4 : 6 * n - 2] = 0
    points = {round(28 * x) // 6 for stroke in strokes_of(dots) for x, y in stroke if y < 0.4}
    assert points == {0, 1, 2, 3}
    assert {round(28 * x) // 6 for stroke in strokes_of(dots) for x, y in stroke if y > 0.4} == {0, 1, 2, 3}


@pytest.mark.foreign_names
def test_drawings_are_saved_and_loaded(tmp_path):
    save_drawings(tmp_path / "Zeichnungen ✍.json", {"A": CORNER, "B": [], "ß ✍ 数": [[[0, 1]]]})
    assert load_drawings(tmp_path / "Zeichnungen ✍.json") == {"A": CORNER, "B": [], "ß ✍ 数": [[[0.0, 1.0]]]}
    assert os.listdir(tmp_path) == ["Zeichnungen ✍.json"]
    assert list(load_drawings()) == ["A", "B", "C", "D", "E", "query 1", "query 2"]


@pytest.mark.parametrize(
    "kind", [np.array, np.float32, torch.tensor, tuple], ids=["array", "float32", "tensor", "tuple"]
)
def test_points_from_numpy_and_pytorch_are_saved_as_numbers(tmp_path, kind):
    strokes = [[np.float32(0.5), np.float32(0.25)]] if kind is np.float32 else kind([[0.5, 0.25]])
    save_drawings(tmp_path / "drawings.json", {"A": [strokes]})
    assert load_drawings(tmp_path / "drawings.json") == {"A": [[[0.5, 0.25]]]}
    assert torch.equal(prepare([strokes]), prepare([[[0.5, 0.25]]]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_that_an_editor_saved_again(tmp_path, encoding, newline):
    """Some Windows programs add a byte order mark, or write UTF-16; Git may change the ends of lines."""
    text = newline.join(['{"Straße ✍":', "[[[0.5, 0.25],", "[1, 0]]]}", ""])
    (tmp_path / "drawings.json").write_bytes(text.encode(encoding))
    assert load_drawings(tmp_path / "drawings.json") == {"Straße ✍": [[[0.5, 0.25], [1.0, 0.0]]]}


@pytest.mark.parametrize(
    "strokes",
    ["", "01", ["01"], [["01"]], [[["0.5", "0.5"]]], {"A": []}, [{0.5: 0.5}], [[[0.5]]], [[[0.5, 0.5, 0.5]]],
     [[[0.5, -0.001]]], [[[0.5, float("nan")]]], [[None]], 3, None],
)  # fmt: skip
def test_what_is_not_strokes_is_refused_and_nothing_is_written(tmp_path, strokes):
    for function in (prepare, require_strokes, lambda x: save_drawings(tmp_path / "drawings.json", {"A": x})):
        with pytest.raises(ValueError, match=r"these are not strokes; a stroke must be a list of points \[x, y\]"):
            function(strokes)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("drawings", [None, [], [CORNER], {1: CORNER}, {None: []}])
def test_what_is_not_drawings_is_refused_and_nothing_is_written(tmp_path, drawings):
    with pytest.raises(ValueError, match="these are not drawings; they must be a dict from names"):
        save_drawings(tmp_path / "drawings.json", drawings)
    assert os.listdir(tmp_path) == []


def test_a_failed_save_leaves_the_earlier_drawings(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "drawings.json"
    save_drawings(path, {"A": CORNER})
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left.*drawings.json cannot be written; the previous file is unchanged"):
        save_drawings(path, {"A": []})
    assert load_drawings(path) == {"A": CORNER} and os.listdir(tmp_path) == ["drawings.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b'{"A": 3}', b'{"A": [[[0.1]]]}', b'{"A": [[[0.1, 1.5]]]}', b"\x00", b"\xff\xfe\xff", b"[" * 100_000,
     b'{"A": "B"}', b'{"A": [[[NaN, 0.5]]]}', b"null", b'{"A": [[[0.1, 0.2]]'],
)  # fmt: skip
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match="other.json does not contain drawings; they must be a dict of lists of strokes"
    ):
        load_drawings(path)


def test_there_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*none.json; save your drawings there first"):
        load_drawings(tmp_path / "none.json")


def test_git_ignores_the_readers_drawings():
    ignored = Path(__file__).parents[1].joinpath(".gitignore").read_text(encoding="utf-8").split()
    assert {"my_drawings.json", "data/", "runs/"} <= set(ignored)

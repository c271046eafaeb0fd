"""The set of characters: its splits, rotations, and where it comes from."""

import os
import random
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from reptile_helpers import characters
from reptile_helpers.characters import (
    GENERATED,
    OMNIGLOT,
    Characters,
    generated_characters,
    load_characters,
    with_rotations,
)
from reptile_helpers.omniglot import CACHE, OmniglotNotFound, _write_cache

pytestmark = pytest.mark.usefixtures("offline")

# --- splits and rotations


@pytest.fixture
def all_classes():
    return Characters(torch.zeros(1623, 1, 1, 1, dtype=torch.uint8), ["Alphabet/character01"] * 1623, "Omniglot")


def test_paper_split_shuffles_all_classes_into_1200_and_423(all_classes):
    train, test = all_classes.paper_split()
    assert (len(train), len(test), train.dtype, test.dtype) == (1200, 423, torch.int64, torch.int64)
    assert sorted(torch.cat([train, test]).tolist()) == list(range(1623))
    assert train.max() > 1200 and not torch.equal(train, train.sort().values)


def test_paper_split_depends_on_the_seed_alone(all_classes):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = all_classes.paper_split(seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(first[0], all_classes.paper_split(seed=3)[0])
    assert not torch.equal(first[0], all_classes.paper_split(seed=4)[0])
    assert torch.equal(all_classes.paper_split()[0], all_classes.paper_split(seed=0)[0])


def test_paper_split_is_that_of_the_authors_code(all_classes):
    """Which lists the folders of both sets as one, sorted, seeds `random`, and shuffles before anything else."""
    # Not in the order of the numbers. "Anglo-Saxon" comes before "Anglo/" as text, and after "Anglo" as an alphabet.
    alphabets = ["Zulu_(script)", "Anglo-Saxon", "Anglo", "Anglo_(old)", "Braille"]
    names = [f"{alphabet}/character{n:02}" for alphabet in alphabets for n in range(1, 326)][:1623]
    all_classes = replace(all_classes, names=names)
    listed = []
    for alphabet in sorted(alphabets):
        listed += sorted(name for name in names if name.startswith(f"{alphabet}/"))
    random.seed(0)
    random.shuffle(listed)
    train, test = all_classes.paper_split()
    assert [names[label] for label in train] == listed[:1200] and [names[label] for label in test] == listed[1200:]
    assert listed[0] == "Anglo_(old)/character246"  # the same with every Python


def test_omniglot_split_is_the_first_964_and_the_other_659(all_classes):
    train, test = all_classes.omniglot_split()
    assert train.tolist() == list(range(964)) and test.tolist() == list(range(964, 1623))
    assert train.dtype == test.dtype == torch.int64


@pytest.mark.parametrize("split", ["paper_split", "omniglot_split"])
def test_splits_refuse_another_number_of_classes(all_classes, split):
    part = Characters(all_classes.images[:1300], all_classes.names[:1300], "Omniglot")
    with pytest.raises(ValueError, match="there are 1300 classes; there must be all 1623"):
        getattr(part, split)()


@pytest.mark.parametrize("seed", [-1, 0.0, "0", None, True])
def test_paper_split_refuses_what_is_not_a_seed(all_classes, seed):
    with pytest.raises(ValueError, match=f"seed is {seed!r}; it must be a whole number of at least 0"):
        all_classes.paper_split(seed)


def test_paper_split_takes_numpys_integers(all_classes):
    for mine, other in zip(all_classes.paper_split(3), all_classes.paper_split(np.int64(3)), strict=True):
        assert torch.equal(mine, other)


def test_a_name_for_each_class():
    with pytest.raises(ValueError, match="names has 3 entries; it must have 2, one for each class"):
        Characters(torch.zeros(2, 1, 28, 28), ["A/character01"] * 3, OMNIGLOT)


def test_alphabets_and_whether_they_are_generated():
    some = Characters(torch.zeros(2, 1, 1, 1), ["N_Ko/character02", "Latin/character11"], "Omniglot")
    assert some.alphabets == ["N_Ko", "Latin"]
    assert not some.generated
    assert Characters(some.images, some.names, GENERATED).generated
    assert GENERATED == "GENERATED characters (not Omniglot)"


def test_rotations_are_new_classes_after_the_upright_ones():
    images = torch.full((2, 3, 28, 28), 255, dtype=torch.uint8)
    images[1, 2, 0, 27] = 0  # ink in the corner at the top right, which turns counterclockwise
    turned = with_rotations(images)
    assert turned.shape == (8, 3, 28, 28) and turned.dtype == torch.uint8
    assert torch.equal(turned[:2], images)
    ink = (turned == 0).nonzero().tolist()
    assert ink == [[1, 2, 0, 27], [3, 2, 0, 0], [5, 2, 27, 0], [7, 2, 27, 27]]


@pytest.mark.parametrize("shape", [(20, 28, 28), (2, 20, 28, 27)])
def test_rotations_refuse_other_shapes(shape):
    with pytest.raises(ValueError) as error:
        with_rotations(torch.zeros(shape))
    assert str(error.value) == f"images is {list(shape)}; it must be a tensor [class, drawing, H, H]"


def test_rotations_refuse_what_is_not_a_tensor():
    with pytest.raises(ValueError, match=r"images is ndarray; it must be a tensor \[class, drawing, H, H\]"):
        with_rotations(np.zeros((2, 3, 28, 28)))


# --- where they come from


def quietly_load(root, **options):
    """Load, and fail on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_characters(root, **options)


def test_omniglot_is_loaded_where_it_is(root, few):
    images, names = torch.randint(2, (5, 20, 28, 28), dtype=torch.uint8), [f"A/character0{n}" for n in range(1, 6)]
    _write_cache(root / CACHE, images, names)
    for allow in (True, False):
        loaded = quietly_load(root, allow_generated=allow)
        assert torch.equal(loaded.images, images) and loaded.names == names
        assert loaded.source == OMNIGLOT == "Omniglot" and not loaded.generated


def test_generated_characters_are_announced_and_never_cached(root, few):
    with pytest.warns(UserWarning) as notices:
        loaded = load_characters(root)
    assert loaded.generated and loaded.source == "GENERATED characters (not Omniglot)"
    assert loaded.names == [f"Generated/character000{number}" for number in range(1, 6)]
    assert loaded.images.shape == (5, 20, 28, 28) and loaded.images.dtype == torch.uint8
    assert set(loaded.images.unique().tolist()) == {0, 255} and loaded.images.float().mean() > 128
    assert os.listdir(root) == []
    [notice] = notices
    assert "GENERATED characters, NOT Omniglot" in str(notice.message) and "refused" in str(notice.message)
    for advice in (str(root / "omniglot-py"), "REPTILE_DATA", "Connect to the internet", "images_evaluation.zip"):
        assert advice in str(notice.message)
    assert notice.filename == __file__


def test_generated_characters_are_announced_in_a_red_box_in_a_notebook(root, few, monkeypatch):
    ipython, shown = pytest.importorskip("IPython"), []
    monkeypatch.setattr(ipython, "get_ipython", lambda: "a running shell")
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append((bundle, raw)))
    assert quietly_load(root).generated
    [(bundle, raw)] = shown
    assert raw and "GENERATED characters, NOT Omniglot" in bundle["text/plain"]
    box = bundle["text/html"]
    assert "GENERATED characters, NOT Omniglot" in box and "solid #d00" in box and "font-weight: bold" in box
    assert "&lt;urlopen error" in box and "<urlopen" not in box


def test_without_permission_nothing_is_generated_and_nothing_announced(root, monkeypatch):
    monkeypatch.setattr(characters, "generate_characters", lambda *sizes: pytest.fail("they were generated"))
    with pytest.raises(FileNotFoundError) as error:
        quietly_load(root, allow_generated=False)
    assert isinstance(error.value, OmniglotNotFound) and os.listdir(root) == []
    message = str(error.value)
    assert message.startswith(f"Omniglot is neither in {root} nor can it be downloaded (URLError: ")
    assert "GENERATED" not in message
    assert "use characters.generated_characters(), or --data generated on the command line" in message


def test_a_part_of_omniglot_is_never_replaced_by_generated_characters(root, few):
    (root / "omniglot-py").mkdir()
    (root / "omniglot-py" / "images_background.zip").write_bytes(b"PK half of it")
    with pytest.raises(FileNotFoundError, match="images_background.zip cannot be used: it is damaged"):
        quietly_load(root)


def test_all_generated_characters_are_made_in_one_way(root, monkeypatch):
    """With different names the same characters would be split differently: training classes of one run would be test
    classes of another."""
    asked = []
    monkeypatch.setattr(characters, "generate_characters", lambda *sizes: asked.append(sizes) or torch.ones(1623, 20))
    with pytest.warns(UserWarning, match="GENERATED"):
        loaded = load_characters(root)
    generated = generated_characters()
    assert asked == [(1623,)] * 2
    assert loaded.names == generated.names and loaded.source == generated.source == GENERATED
    for mine, other in zip(loaded.paper_split(), generated.paper_split(), strict=True):
        assert torch.equal(mine, other)
    assert generated.names == sorted(generated.names) and len(set(generated.names)) == 1623


def test_loading_can_be_printed_on_every_console(root):
    """The notices can be shown by a console that has ASCII only, and so by all of them."""
    program = f"""
import warnings
from torchvision.datasets import Omniglot
from reptile_helpers import omniglot_files
from reptile_helpers.characters import load_characters
omniglot_files.SETS.update(images_background=3, images_evaluation=2)
Omniglot.download_url_prefix = "http://127.0.0.1:9"
characters = load_characters({str(root)!r})
print(characters.source, characters.names)
"""
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "no_proxy": "*"}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    assert b"GENERATED" in result.stdout and b"NOT Omniglot" in result.stderr

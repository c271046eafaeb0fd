"""Omniglot is found, checked, downloaded and cached. Most tests use a stand-in of five characters; the last ones use
Omniglot itself if REPTILE_DATA is a folder with an extracted omniglot-py/ in it."""

import errno
import hashlib
import io
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import Omniglot

from reptile_helpers import files, omniglot
from reptile_helpers.characters import OMNIGLOT, Characters
from reptile_helpers.checkpoint import load_pretrained
from reptile_helpers.omniglot import OmniglotNotFound, load_omniglot
from reptile_helpers.omniglot_files import SETS

pytestmark = pytest.mark.usefixtures("offline", "few")
REAL = os.environ.get("REPTILE_DATA")
# In the order of their numbers, which is not the order of the alphabet.
NAMES = ["Zeta/character01", "Zeta/character02", "Alpha/character01", "Psi/character01", "Beta/character01"]
PARTS = ["images_background"] * 3 + ["images_evaluation"] * 2


def pixels(number, person):
    """Another drawing for every character and person: a block of ink, different in height and width."""
    paper = np.ones((105, 105), dtype=bool)
    paper[: 10 * number, : 5 * person] = False
    return paper


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """A folder omniglot-py/ with five characters."""
    folder = tmp_path_factory.mktemp("stand_in") / "omniglot-py"
    for number, (part, name) in enumerate(zip(PARTS, NAMES, strict=True), start=1):
        (folder / part / name).mkdir(parents=True)
        for person in range(1, 21):
            Image.fromarray(pixels(number, person)).save(folder / part / name / f"{number:04}_{person:02}.png")
    return folder


@pytest.fixture
def full_root(root, stand_in):
    shutil.copytree(stand_in, root / "omniglot-py")
    return root


def quietly_load(root):
    """Loads and fails on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_omniglot(root)


def assert_is_stand_in(loaded):
    images, names = loaded
    assert names == NAMES and images.dtype == torch.uint8
    nearest = ((np.arange(28) + 0.5) * 105 / 28).astype(int)
    expected = [[pixels(n, p)[nearest][:, nearest] * 255 for p in range(1, 21)] for n in range(1, 6)]
    assert np.array_equal(images.numpy(), np.array(expected))


# --- where it may lie, and what may lie next to it


def test_folder_is_read_in_the_order_of_the_numbers(full_root):
    assert_is_stand_in(quietly_load(full_root))
    assert sorted(os.listdir(full_root)) == [omniglot.CACHE, "omniglot-py"]


def pack(folder, *parts, prefix="", more=()):
    """A ZIP archive of sets, as bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part in parts:
            for drawing in sorted((folder / part).rglob("*.png")):
                archive.write(drawing, prefix + drawing.relative_to(folder).as_posix())
        for name in more:
            archive.writestr(name, b"something else")
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def zips_in(place, names="{}.zip"):
    def arrange(root, folder):
        for part in SETS:
            put(root / place / names.format(part), pack(folder, part))
            shutil.rmtree(folder / part)

    return arrange


def zips_in_folders_of_their_name(root, folder):
    for part in SETS:
        put(root / "new" / part / f"{part}.zip", pack(folder, part))
    shutil.rmtree(folder)
    move(root / "new", folder)


def zips_with_what_a_mac_adds(root, folder):
    for part in SETS:
        more = ["__MACOSX/._" + part, f"__MACOSX/{part}/Zeta/character01/._0001_01.png", f"{part}/.DS_Store"]
        put(root / f"{part}.zip", pack(folder, part, more=more))
    shutil.rmtree(folder)


def one_zip_of_both(root, folder):
    put(root / "archive.zip", pack(folder, *SETS, prefix="omniglot/"))
    shutil.rmtree(folder)


def one_set_packed(root, folder):
    put(root / "images_evaluation.zip", pack(folder, "images_evaluation"))
    shutil.rmtree(folder / "images_evaluation")


def sets_in(place):
    def arrange(root, folder):
        for part in SETS:
            move(folder / part, root / place / part)
        if not list(folder.iterdir()):
            folder.rmdir()

    return arrange


def a_folder_too_deep(root, folder):
    for part in SETS:
        move(folder / part, root / "new" / part / part)
    folder.rmdir()
    move(root / "new", folder)


def a_folder_too_deep_with_other_names(root, folder):
    for part in SETS:
        move(folder / part, root / "omniglot" / f"{part} (1)" / part)
    folder.rmdir()


def alphabets_of_both_sets_in_one_folder(root, folder):
    for part in SETS:
        for alphabet in list((folder / part).iterdir()):
            move(alphabet, root / "omniglot" / alphabet.name)
    shutil.rmtree(folder)


def damaged_next_to_a_good_archive(root, folder):
    put(folder / "images_background.zip", pack(folder, "images_background"))
    (folder / "images_background/Zeta/character02/0002_07.png").unlink()


def damaged_next_to_a_good_copy(root, folder):
    move(folder / "images_background", root / "images_background")
    (folder / "images_background/Zeta/character01").mkdir(parents=True)
    shutil.copy(root / "images_background/Zeta/character01/0001_01.png", folder / "images_background/Zeta/character01")


def next_to_a_broken_archive(root, folder):
    put(folder / "images_evaluation.zip", b"PK half of it")


def with_the_small_sets(root, folder):
    shutil.copytree(folder / "images_background/Alpha", folder / "images_background_small1/Alpha")
    put(root / "images_background_small2.zip", pack(folder, "images_evaluation"))


def links(root, folder):
    move(folder, root / "elsewhere")
    folder.mkdir()
    for part in SETS:
        (folder / part).symlink_to(root / "elsewhere" / part)


@pytest.mark.parametrize(
    "arrange",
    [
        zips_in("."), zips_in("omniglot-py"), zips_in("omniglot-master/python"), zips_in(".", "{} (1).zip"),
        zips_in("data/omniglot-py"), zips_in_folders_of_their_name, zips_with_what_a_mac_adds, one_zip_of_both,
        one_set_packed, sets_in("."), sets_in("omniglot"), sets_in("omniglot-py/omniglot-py"), sets_in("archive"),
        sets_in("omniglot/python"), sets_in("Omniglot-Py-2/data"), a_folder_too_deep,
        a_folder_too_deep_with_other_names, alphabets_of_both_sets_in_one_folder, damaged_next_to_a_good_archive,
        damaged_next_to_a_good_copy, next_to_a_broken_archive, with_the_small_sets, links,
    ],
)  # fmt: skip
def test_places_where_people_have_omniglot(full_root, arrange):
    arrange(full_root, full_root / "omniglot-py")
    before = sorted(full_root.rglob("*"))
    assert_is_stand_in(quietly_load(full_root))
    assert sorted(full_root.rglob("*")) == sorted([*before, full_root / omniglot.CACHE])  # used where it is


@pytest.mark.parametrize("place", ["omniglot-py", "omniglot-py/images_background", "omniglot-py/images_evaluation"])
def test_root_that_is_a_folder_of_omniglot(full_root, place):
    assert_is_stand_in(quietly_load(full_root / place))


LITTER = {
    "what a Mac leaves": ["._0001_01.png", "._0001_02.png", ".DS_Store", "Icon\r", "._character01", "._Zeta"],
    "what Windows leaves": ["Thumbs.db", "desktop.ini", "0001_01.png:Zone.Identifier"[:11] + ".lnk", "~$notes.txt"],
    "a checkpoint of Jupyter": [".ipynb_checkpoints/0001_01.png", ".ipynb_checkpoints/0001_01-checkpoint.png"],
    "a checkpoint with drawings": [".ipynb_checkpoints/character01/0009_01.png", ".ipynb_checkpoints/Zeta/0009_01.png"],
    "a Synology disk": ["@eaDir/0001_01.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir/character01/0009_01.png", "#recycle/Zeta"],
    "an archive of a Mac": ["__MACOSX/character01/._0001_01.png", "__MACOSX/character01/0009_01.png"],
    "a waste bin": [
        ".Trash-1000/files/character01/0009_01.png",
        "$RECYCLE.BIN/character01/0009_01.png",
        "lost+found/x",
    ],
    "copies": [
        "0001_01 (1).png",
        "0001_01 - Copy.png",
        "Zeta copy/character01/0001_01.png",
        "character01 (1)/0001_01.png",
    ],
    "a cloud drive": [
        ".0001_01.png.icloud",
        "0001_01 (conflicted copy).png",
        ".dropbox",
        ".sync/character01/0009_01.png",
    ],
    "unfinished files": [
        "0001_01.png.part",
        "0001_01.png.crdownload",
        ".0001_01.png.swp",
        "images_evaluation.zip.part",
    ],
    "notes": ["README.md", "readme/character01.txt", "0001_01.txt", "0001_21.png", "01.png"],
    "an empty alphabet": ["New_folder/.keep", "Omega/character01/.keep", "character09/.keep"],
}


@pytest.mark.parametrize("names", LITTER.values(), ids=LITTER.keys())
def test_what_systems_leave_between_the_drawings_does_not_matter(full_root, names):
    folders = ["omniglot-py", "omniglot-py/images_background", "omniglot-py/images_background/Zeta"]
    for folder in [*folders, "omniglot-py/images_background/Zeta/character01", "omniglot-py/images_evaluation", "."]:
        for name in names:
            path = full_root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(b"something else")
    assert_is_stand_in(quietly_load(full_root))


# --- what is missing or damaged


def without_one_drawing(folder):
    (folder / "images_background/Zeta/character02/0002_07.png").unlink()
    return "images_background/Zeta/character02", "contains 19 of 20 drawings; 0002_07.png is missing"


def without_the_first_drawing(folder):
    (folder / "images_evaluation/Psi/character01/0004_01.png").unlink()
    return "images_evaluation/Psi/character01", "contains 19 of 20 drawings; 0004_01.png is missing"


def without_the_last_drawing(folder):
    (folder / "images_evaluation/Beta/character01/0005_20.png").unlink()
    return "images_evaluation/Beta/character01", "contains 19 of 20 drawings; 0005_20.png is missing"


def without_drawings(folder):
    for drawing in (folder / "images_background/Zeta/character02").iterdir():
        drawing.unlink()
    return "images_background/Zeta/character02", "contains 0 of 20 drawings"


def without_an_alphabet(folder):
    shutil.rmtree(folder / "images_evaluation/Psi")
    return "images_evaluation", "contains 1 of 2 characters; the first missing drawing is 0004_01.png"


def with_an_extra_character(folder):
    shutil.copytree(folder / "images_background/Zeta", folder / "images_background/Zeta_copy")
    return "images_background/Zeta/character01", "Zeta_copy/character01 both contain drawings of character 0001"


def with_a_character_twice(folder):
    shutil.rmtree(folder / "images_background/Zeta/character02")
    shutil.copytree(folder / "images_background/Zeta/character01", folder / "images_background/Zeta/character02")
    return "images_background", "contains 2 of 3 characters; the first missing drawing is 0002_01.png"


def with_a_drawing_of_another_character(folder):
    character = folder / "images_background/Zeta/character02"
    (character / "0002_20.png").rename(character / "0001_20.png")
    return "images_background/Zeta/character01", "Zeta/character02 both contain drawings of character 0001"


def with_two_characters_in_one_folder(folder):
    zeta = folder / "images_background/Zeta"
    for drawing in list((zeta / "character02").iterdir()):
        drawing.rename(zeta / "character01" / drawing.name)
    (zeta / "character02").rmdir()
    return "images_background/Zeta/character01", "of two characters, 0001_01.png and 0002_01.png"


def with_a_truncated_image(folder):
    drawing = folder / "images_evaluation/Psi/character01/0004_20.png"
    drawing.write_bytes(drawing.read_bytes()[:70])
    return "images_evaluation/Psi/character01/0004_20.png", "cannot be read as an image"


def with_an_empty_image(folder):
    (folder / "images_background/Zeta/character01/0001_01.png").write_bytes(b"")
    return "images_background/Zeta/character01/0001_01.png", "cannot be read as an image"


def with_text_for_an_image(folder):
    (folder / "images_background/Zeta/character01/0001_01.png").write_text("404: Not Found", encoding="utf-8")
    return "images_background/Zeta/character01/0001_01.png", "cannot be read as an image"


def with_a_small_image(folder):
    Image.new("1", (28, 28), 1).save(folder / "images_background/Alpha/character01/0003_02.png")
    return "images_background/Alpha/character01/0003_02.png", "28x28 pixels, mode 1; it must have 105x105 pixels"


def with_a_grey_image(folder):
    Image.new("L", (105, 105), 200).save(folder / "images_background/Alpha/character01/0003_02.png")
    return "images_background/Alpha/character01/0003_02.png", "105x105 pixels, mode L; it must have"


@pytest.mark.parametrize(
    "damage",
    [without_one_drawing, without_the_first_drawing, without_the_last_drawing, without_drawings, without_an_alphabet,
     with_an_extra_character, with_a_character_twice, with_a_drawing_of_another_character,
     with_two_characters_in_one_folder, with_a_truncated_image, with_an_empty_image, with_text_for_an_image,
     with_a_small_image, with_a_grey_image],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_damaged_folder_is_one_error_that_says_what_where_and_what_to_do(server, full_root, damage):
    folder = full_root / "omniglot-py"
    where, what = damage(folder)
    before = sorted(full_root.rglob("*"))
    with pytest.raises(ValueError) as error:
        quietly_load(full_root)
    assert str(error.value).startswith(f"{folder / where} ")
    assert what in str(error.value)
    assert f"Repair this, or move {folder / where.split('/')[0]} somewhere else and load again" in str(error.value)
    assert sorted(full_root.rglob("*")) == before and not server.asked  # no cache, no download
    move(folder / where.split("/")[0], full_root / "else")
    assert_is_stand_in(quietly_load(full_root))  # the advice is good
    assert server.asked == {f"{where.split('/')[0]}.zip"}


def test_damaged_drawing_in_an_archive(root, stand_in):
    whole = pack(stand_in, *SETS)
    at = whole.index(b"IDAT", whole.index(b"images_background/Zeta/character01/0001_05.png")) + 6
    put(root / "omniglot.zip", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(ValueError, match="omniglot.zip/images_background/Zeta/character01/0001_05.png cannot be read"):
        load_omniglot(root)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def without_a_folder(folder):
    shutil.rmtree(folder)


def with_empty_folders(folder):
    for alphabet in folder.glob("*/*"):
        shutil.rmtree(alphabet)


def with_the_small_sets_only(folder):
    (folder / "images_background").rename(folder / "images_background_small1")
    shutil.rmtree(folder / "images_evaluation")


@pytest.mark.parametrize("remove", [empty, without_a_folder, with_empty_folders, with_the_small_sets_only])
def test_nothing_of_omniglot_is_there(server, full_root, remove, monkeypatch):
    remove(full_root / "omniglot-py")
    with monkeypatch.context() as offline:
        offline.setattr(Omniglot, "download_url_prefix", "http://127.0.0.1:9")
        with pytest.raises(
            OmniglotNotFound, match="^Omniglot is neither in .*root nor can it be downloaded .URLError.*refus"
        ):
            load_omniglot(full_root)
    assert not list(full_root.glob(".*")) and not (full_root / omniglot.CACHE).exists()
    assert_is_stand_in(quietly_load(full_root))  # with a network it is downloaded


def one_set_missing(folder):
    shutil.rmtree(folder / "images_evaluation")
    return "", "images_evaluation, a part of Omniglot, is neither in"


def half_a_zip(folder):
    (folder / "images_evaluation.zip").write_bytes(pack(folder, "images_evaluation")[:-500])
    shutil.rmtree(folder / "images_evaluation")
    return "images_evaluation.zip", "cannot be used: it is damaged, or was not downloaded completely"


def a_web_page_for_a_zip(folder):
    shutil.rmtree(folder / "images_evaluation")
    (folder / "images_evaluation.zip").write_text("<html>404: Not Found", encoding="utf-8")
    return "images_evaluation.zip", "cannot be used: it is damaged, or was not downloaded completely"


def a_zip_with_too_little(folder):
    shutil.rmtree(folder / "images_evaluation/Psi")
    put(folder / "images_evaluation.zip", pack(folder, "images_evaluation"))
    shutil.rmtree(folder / "images_evaluation")
    return "images_evaluation.zip", "contains 1 of 2 characters; the first missing drawing is 0004_01.png"


@pytest.mark.parametrize("remove", [one_set_missing, half_a_zip, a_web_page_for_a_zip, a_zip_with_too_little])
def test_a_missing_part_is_named_or_downloaded(server, full_root, remove, monkeypatch):
    """It is an error and never replaced by generated characters: somebody wants Omniglot here."""
    folder = full_root / "omniglot-py"
    where, what = remove(folder)
    with monkeypatch.context() as offline:
        offline.setattr(Omniglot, "download_url_prefix", "http://127.0.0.1:9")
        with pytest.raises(FileNotFoundError) as error:
            load_omniglot(full_root)
    message = str(error.value)
    assert not isinstance(error.value, OmniglotNotFound) and what in message and str(folder / where) in message
    assert f"put images_evaluation.zip from {omniglot.ADDRESS}, packed or unpacked, into {folder}" in message
    assert "URLError" in message and "REPTILE_DATA" in message and "delete" not in message
    assert not list(full_root.glob(".*")) and not (full_root / omniglot.CACHE).exists()
    assert_is_stand_in(quietly_load(full_root))
    assert server.asked == {"images_evaluation.zip"}  # only what was missing is downloaded
    assert (folder / "images_evaluation/Beta/character01/0005_20.png").is_file()


def test_a_folder_that_may_not_be_opened_is_not_called_damaged(stand_in, open_root, request):
    shutil.copytree(stand_in, open_root / "omniglot-py")
    (open_root / "private").mkdir(mode=0)
    for path in open_root.rglob("*"):
        if not os.geteuid():
            os.chown(path, 65534, -1)
    closed = open_root / "omniglot-py/images_background/Zeta"
    request.getfixturevalue("nobody")
    closed.chmod(0)
    with pytest.raises(ValueError, match="Zeta cannot be opened by this user. Repair this"):
        load_omniglot(open_root)
    closed.chmod(0o755)
    (closed / "character01").chmod(0)
    with pytest.raises(PermissionError, match="Zeta/character01"):
        load_omniglot(open_root)
    (closed / "character01").chmod(0o755)
    (closed / "character01/0001_03.png").chmod(0)
    with pytest.raises(PermissionError, match="0001_03.png"):
        load_omniglot(open_root)
    (closed / "character01/0001_03.png").chmod(0o644)
    assert_is_stand_in(load_omniglot(open_root))


# --- the cache


def test_second_load_needs_the_cache_alone(full_root):
    quietly_load(full_root)
    shutil.rmtree(full_root / "omniglot-py")
    assert_is_stand_in(quietly_load(full_root))
    assert os.listdir(full_root) == [omniglot.CACHE]


DAMAGES = {
    "truncated": lambda content: content[:-1000],
    "cut in the digest": lambda content: content[:20],
    "empty": lambda content: b"",
    "garbage": lambda content: b"garbage" * 1000,
    "wrong digest": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "one bit in the images": lambda content: content[:9000] + bytes([content[9000] ^ 1]) + content[9001:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_cache_is_built_again_with_a_notice(full_root, damage):
    quietly_load(full_root)
    cache = full_root / omniglot.CACHE
    content = cache.read_bytes()
    cache.write_bytes(damage(content))
    with pytest.warns(UserWarning, match="is damaged and will be built again"):
        assert_is_stand_in(load_omniglot(full_root))
    assert_is_stand_in(quietly_load(full_root))


class Malice:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def other_caches():
    """Caches whose digest is right, and whose contents are not."""
    small = {"images": torch.zeros(3, 20, 28, 28, dtype=torch.uint8), "names": NAMES[:3]}
    grey = {"images": torch.zeros(5, 20, 28, 28), "names": NAMES}
    nameless = {"images": torch.zeros(5, 20, 28, 28, dtype=torch.uint8), "names": NAMES[:4]}
    for content in ([1, 2], {"images": 3, "names": []}, small, grey, nameless):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        yield buffer.getvalue()
    yield pickle.dumps({"images": Malice(), "names": []}, protocol=2)
    yield b"PK"


def test_cache_of_something_else_is_built_again_and_executes_nothing(full_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in other_caches():
        (full_root / omniglot.CACHE).write_bytes(hashlib.sha256(content).digest() + content)
        with pytest.warns(UserWarning, match="is damaged and will be built again"):
            assert_is_stand_in(load_omniglot(full_root))
        assert_is_stand_in(quietly_load(full_root))
    assert not Path("executed").exists()


# --- a process that is killed


LOADING = """
import hashlib, os, signal, sys
from pathlib import Path
from torchvision.datasets import Omniglot
from reptile_helpers import omniglot, omniglot_files

root, moment, address, *md5 = sys.argv[1:]
omniglot_files.SETS.update(images_background=3, images_evaluation=2)
Omniglot.zips_md5, Omniglot.download_url_prefix = dict(zip(omniglot_files.SETS, md5)), address
replace, read = os.replace, omniglot._read_drawing


def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def half(descriptor):
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    die()


if moment == "a drawing is read":
    omniglot._read_drawing = lambda path, folder: die() if "0004_07" in path.name else read(path, folder)
if moment == "half of the cache is written":
    os.fsync = half
if moment == "the cache is not yet in its place":
    os.replace = die
if moment == "the cache has come to its place":
    os.replace = lambda source, target: (replace(source, target), die())
omniglot.load_omniglot(root)
"""


def loading(root, moment, address="", *md5):
    environment = os.environ | {"no_proxy": "*"}
    return subprocess.Popen([sys.executable, "-c", LOADING, root, moment, address, *md5], env=environment)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    "moment, files",
    [
        ("a drawing is read", []),
        ("half of the cache is written", [".part"]),
        ("the cache is not yet in its place", [".part"]),
        ("the cache has come to its place", [omniglot.CACHE]),
    ],
)
def test_killed_while_the_cache_is_built(full_root, moment, files):
    assert loading(full_root, moment).wait(60) == -signal.SIGKILL
    left = [".part" if name.startswith(f".{omniglot.CACHE}-") else name for name in os.listdir(full_root)]
    assert sorted(left) == sorted([*files, "omniglot-py"])
    assert_is_stand_in(quietly_load(full_root))
    assert_is_stand_in(quietly_load(full_root))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("faulty", ["images_background.zip", "images_evaluation.zip"])
def test_killed_while_omniglot_is_downloaded(server, root, faulty):
    server.fault, server.faulty = "stops half-way", faulty
    process = loading(root, "", Omniglot.download_url_prefix, *Omniglot.zips_md5.values())
    assert server.half_sent.wait(60)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert [name[:19] for name in os.listdir(root)] == [".omniglot-download-"]
    server.fault = None
    assert_is_stand_in(quietly_load(root))


def test_processes_can_fill_the_cache_at_the_same_time(full_root, monkeypatch):
    loaded, written, together, replace = [], [], threading.Barrier(2, timeout=10), os.replace

    def replace_together(source, target):
        written.append(Path(source).name)
        together.wait()  # both files are there before either is moved
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_together)
    threads = [threading.Thread(target=lambda: loaded.append(load_omniglot(full_root))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == len(written) == len(set(written)) == 2
    assert omniglot.CACHE not in written  # only ever moved into place
    assert sorted(os.listdir(full_root)) == [omniglot.CACHE, "omniglot-py"]
    monkeypatch.undo()
    monkeypatch.setitem(SETS, "images_background", 3)
    monkeypatch.setitem(SETS, "images_evaluation", 2)
    assert_is_stand_in(quietly_load(full_root))


# --- the root


@pytest.mark.foreign_names
def test_root_with_spaces_and_other_letters(server, tmp_path):
    root = tmp_path / "Daten für heute 数据 ✍"
    root.mkdir()
    assert_is_stand_in(quietly_load(root))  # downloaded
    assert_is_stand_in(quietly_load(root))  # from the cache
    (root / omniglot.CACHE).unlink()
    assert_is_stand_in(quietly_load(root))  # from the folder


@pytest.fixture
def nobody():
    """An ordinary user: to root, no folder is read-only."""
    if sys.platform == "win32":
        pytest.skip("a folder that cannot be written is another thing on Windows")
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def open_root():
    folder = Path(tempfile.mkdtemp())  # not tmp_path, which nobody else can enter
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def read_only_root(open_root):
    open_root.chmod(0o555)
    yield open_root
    open_root.chmod(0o755)


def test_root_that_is_really_read_only(read_only_root, nobody):
    with pytest.raises(PermissionError, match="does not contain Omniglot and cannot be written .Permission denied."):
        load_omniglot(read_only_root)


def test_root_with_data_that_is_really_read_only(read_only_root, stand_in, request):
    read_only_root.chmod(0o755)
    shutil.copytree(stand_in, read_only_root / "omniglot-py")
    read_only_root.chmod(0o555)
    request.getfixturevalue("nobody")
    with pytest.warns(UserWarning, match="cache cannot be written.*Permission denied"):
        assert_is_stand_in(load_omniglot(read_only_root))
    assert os.listdir(read_only_root) == ["omniglot-py"]


def read_only(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_root_with_data_that_cannot_be_written_is_read_with_a_notice(full_root, monkeypatch):
    monkeypatch.setattr(files, "open", read_only, raising=False)
    monkeypatch.setattr(Path, "unlink", read_only)  # a read-only file system says so before it looks for the file
    with pytest.warns(UserWarning, match="cache cannot be written.*Read-only file system"):
        assert_is_stand_in(load_omniglot(full_root))
    assert os.listdir(full_root) == ["omniglot-py"]


def test_cache_on_a_full_disk_leaves_nothing(full_root, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="every load will take as long as this one.*No space left"):
        assert_is_stand_in(load_omniglot(full_root))
    assert os.listdir(full_root) == ["omniglot-py"]


def test_root_without_data_that_cannot_be_written(root, monkeypatch):
    monkeypatch.setattr(tempfile, "mkdtemp", read_only)
    with pytest.raises(
        PermissionError, match="root does not contain Omniglot and cannot be written .Read-only file system."
    ):
        load_omniglot(root)


# --- the download, by torchvision's own code, from a server here


class Server(ThreadingHTTPServer):
    """Serves `archives`; `fault` is what goes wrong with the archive `faulty`."""

    archives: dict[str, bytes]
    fault = faulty = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.asked, self.released, self.half_sent = set(), threading.Event(), threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.add(name)
        content = self.server.archives[name]
        fault = self.server.fault if name == self.server.faulty else None
        if fault == "silence":
            self.server.released.wait(10)
            return
        if fault == "not found":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "stops half-way":
            self.wfile.write(content[: len(content) // 2])
            self.server.half_sent.set()
            self.server.released.wait(60)
            return
        if fault == "dies half-way":
            content = content[: len(content) // 2]
        if fault == "corrupted":
            content = content[:500] + bytes([content[500] ^ 1]) + content[501:]
        try:
            self.wfile.write(content)
        except ConnectionError:
            pass  # torchvision asks once for the address alone, and hangs up

    def log_message(self, *args):
        pass


@pytest.fixture
def server(stand_in, monkeypatch):
    archives = {f"{part}.zip": pack(stand_in, part) for part in SETS}
    server = Server(("127.0.0.1", 0), Handler)
    server.archives = archives
    md5 = {part: hashlib.md5(archives[f"{part}.zip"]).hexdigest() for part in SETS}
    monkeypatch.setattr(Omniglot, "zips_md5", md5)
    monkeypatch.setattr(Omniglot, "download_url_prefix", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_and_then_no_more_network(server, root, monkeypatch):
    assert_is_stand_in(quietly_load(root))
    assert sorted(os.listdir(root)) == [omniglot.CACHE, "omniglot-py"]
    Omniglot(root, background=True), Omniglot(root, background=False)  # torchvision finds its own folder
    monkeypatch.setattr(Omniglot, "download_url_prefix", "http://127.0.0.1:9")
    assert_is_stand_in(quietly_load(root))
    (root / omniglot.CACHE).unlink()
    assert_is_stand_in(quietly_load(root))


@pytest.mark.parametrize("faulty", ["images_background.zip", "images_evaluation.zip"])
@pytest.mark.parametrize(
    "fault, reason",
    [("dies half-way", "corrupted"), ("corrupted", "corrupted"), ("not found", "404"), ("silence", "timed out")],
)
def test_failed_download_leaves_nothing_and_the_next_one_works(server, root, monkeypatch, fault, reason, faulty):
    server.fault, server.faulty = fault, faulty
    monkeypatch.setattr(omniglot, "TIMEOUT", 0.3)
    with pytest.raises(OmniglotNotFound, match=reason):
        load_omniglot(root)
    assert os.listdir(root) == []
    assert socket.getdefaulttimeout() is None
    server.fault = None
    monkeypatch.setattr(omniglot, "TIMEOUT", 10)
    assert_is_stand_in(quietly_load(root))


def zip_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        zip_of({"../../outside": "x", "/tmp/outside-of-everything": "x"}),
        zip_of({"images_background/bomb": bytes(50_000_000)}),
        b"",
        b"no zip",
    ],
    ids=["path traversal", "bomb", "empty", "no zip"],
)
def test_another_archive_than_the_publishers_is_not_even_opened(server, root, monkeypatch, archive):
    server.archives["images_background.zip"] = archive
    monkeypatch.setattr(zipfile, "ZipFile", lambda *args, **kwargs: pytest.fail("it was opened"))
    with pytest.raises(OmniglotNotFound, match="corrupted"):
        load_omniglot(root)
    assert os.listdir(root) == []
    assert not (root.parent / "outside").exists() and not Path("/tmp/outside-of-everything").exists()


def test_the_download_is_https_with_the_publishers_checksums(monkeypatch):
    monkeypatch.undo()
    assert Omniglot.download_url_prefix.startswith("https://raw.githubusercontent.com/brendenlake/omniglot/")
    assert set(Omniglot.zips_md5) == {"images_background", "images_evaluation"}


def test_interrupted_download_leaves_nothing(server, root, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_omniglot(root)
    assert os.listdir(root) == []


def test_rest_of_a_killed_download_is_not_used(server, root, stand_in):
    shutil.copytree(stand_in, root / ".omniglot-download-killed" / "omniglot-py")
    shutil.rmtree(root / ".omniglot-download-killed" / "omniglot-py" / "images_evaluation")
    assert_is_stand_in(quietly_load(root))


def test_another_process_may_download_at_the_same_time(server, root, stand_in, monkeypatch):
    replace = os.replace

    def replace_too_late(source, target):
        if Path(target).name == "omniglot-py":
            shutil.copytree(stand_in, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_too_late)
    assert_is_stand_in(quietly_load(root))
    assert sorted(os.listdir(root)) == [omniglot.CACHE, "omniglot-py"]


def test_download_that_cannot_be_moved_into_place_counts_as_failed(server, root, monkeypatch):
    monkeypatch.setattr(os, "replace", read_only)
    with pytest.raises(OmniglotNotFound, match="Read-only file system"):
        load_omniglot(root)
    assert os.listdir(root) == []


# --- Omniglot itself


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not REAL or not Path(REAL, "omniglot-py").is_dir():
        pytest.skip("REPTILE_DATA is not a folder with omniglot-py/ in it")
    root = tmp_path_factory.mktemp("real")
    (root / "omniglot-py").symlink_to(Path(REAL, "omniglot-py").absolute())
    assert SETS == {"images_background": 964, "images_evaluation": 659}
    loaded = load_omniglot(root)
    (root / "omniglot-py").unlink()
    return loaded, root


def test_omniglot_itself(real, monkeypatch):
    monkeypatch.undo()
    (images, names), root = real
    assert images.shape == (1623, 20, 28, 28) and images.dtype == torch.uint8
    assert images.unique().tolist() == [0, 255]
    assert 0.85 < (images / 255).mean() < 0.95  # mostly paper
    assert names[708] == "Alphabet_of_the_Magi/character01" and len(set(names)) == 1623
    background, evaluation = ({name.split("/")[0] for name in part} for part in (names[:964], names[964:]))
    assert (len(background), len(evaluation)) == (30, 20) and not background & evaluation
    drawing = Path(REAL, "omniglot-py/images_background/Alphabet_of_the_Magi/character01/0709_01.png")
    with Image.open(drawing) as image:
        assert np.array_equal(images[708, 0] / 255, np.array(image.resize((28, 28))))
    cached, names_in_cache = quietly_load(root)  # the folder is gone
    assert torch.equal(cached, images) and names_in_cache == names


def test_shipped_networks_were_trained_on_this_split(real, monkeypatch):
    monkeypatch.undo()
    (images, names), _ = real
    train, test = Characters(images, names, OMNIGLOT).paper_split()
    state = load_pretrained("omniglot_5way")
    assert torch.equal(state["train_classes"], train) and torch.equal(state["test_classes"], test)

"""Tests of reptile_helpers.characters: without Omniglot on a stand-in of five characters, and on Omniglot itself if
REPTILE_DATA is a folder with an extracted omniglot-py/ in it."""

import errno
import hashlib
import io
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import Omniglot

from reptile_helpers import characters
from reptile_helpers.characters import Characters, load_characters, with_rotations

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


@pytest.fixture(autouse=True)
def five_characters_offline(monkeypatch):
    monkeypatch.setattr(characters, "SETS", {"images_background": 3, "images_evaluation": 2})
    monkeypatch.setattr(Omniglot, "download_url_prefix", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("REPTILE_DATA", raising=False)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def full_root(root, stand_in):
    shutil.copytree(stand_in, root / "omniglot-py")
    return root


def quietly_load(root):
    """Loads and fails on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_characters(root)


def assert_is_stand_in(loaded):
    assert loaded.name == "Omniglot" and not loaded.generated
    assert loaded.names == NAMES
    assert loaded.images.dtype == torch.uint8
    nearest = ((np.arange(28) + 0.5) * 105 / 28).astype(int)
    expected = [[pixels(n, p)[nearest][:, nearest] * 255 for p in range(1, 21)] for n in range(1, 6)]
    assert np.array_equal(loaded.images.numpy(), np.array(expected))


# --- splits and rotations


@pytest.fixture
def all_classes(monkeypatch):
    monkeypatch.setattr(characters, "SETS", {"images_background": 964, "images_evaluation": 659})
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
    alphabets = ["Zulu_(script)", "Anglo-Saxon", "Angelic", "Angelic_(old)", "Braille"]  # not in the order of numbers
    names = [f"{alphabet}/character{n:02}" for alphabet in alphabets for n in range(1, 326)][:1623]
    all_classes = replace(all_classes, names=names)
    listed = []
    for alphabet in sorted(alphabets):
        listed += sorted(name for name in names if name.startswith(f"{alphabet}/"))
    random.seed(0)
    random.shuffle(listed)
    train, test = all_classes.paper_split()
    assert [names[label] for label in train] == listed[:1200] and [names[label] for label in test] == listed[1200:]
    assert listed[0] == "Anglo-Saxon/character246"  # the same with every Python


def test_omniglot_split_is_the_first_964_and_the_other_659(all_classes):
    train, test = all_classes.omniglot_split()
    assert train.tolist() == list(range(964)) and test.tolist() == list(range(964, 1623))
    assert train.dtype == test.dtype == torch.int64


@pytest.mark.parametrize("split", ["paper_split", "omniglot_split"])
def test_splits_refuse_another_number_of_classes(all_classes, split):
    part = Characters(all_classes.images[:1300], all_classes.names[:1300], "Omniglot")
    with pytest.raises(ValueError, match="1300 classes.*1623"):
        getattr(part, split)()


def test_alphabets_and_generated_are_told_from_the_names():
    some = Characters(torch.zeros(2, 1, 1, 1), ["N_Ko/character02", "Latin/character11"], "Omniglot")
    assert some.alphabets == ["N_Ko", "Latin"]
    assert not some.generated
    assert Characters(some.images, some.names, "GENERATED characters (not Omniglot)").generated


def test_rotations_are_new_classes_after_the_upright_ones():
    images = torch.full((2, 3, 28, 28), 255, dtype=torch.uint8)
    images[1, 2, 0, 27] = 0  # ink in the corner at the top right, which turns counterclockwise
    turned = with_rotations(images)
    assert turned.shape == (8, 3, 28, 28) and turned.dtype == torch.uint8
    assert torch.equal(turned[:2], images)
    ink = (turned == 0).nonzero().tolist()
    assert ink == [[1, 2, 0, 27], [3, 2, 0, 0], [5, 2, 27, 0], [7, 2, 27, 27]]


@pytest.mark.parametrize("shape", [(20, 28, 28), (2, 20, 28, 27)])
def test_rotations_refuse_what_is_no_set_of_characters(shape):
    with pytest.raises(ValueError, match=rf"{list(shape)}".replace("[", r"\[").replace("]", r"\]")):
        with_rotations(torch.zeros(shape))


# --- the extracted folder


def test_folder_is_read_in_the_order_of_the_numbers(full_root):
    assert_is_stand_in(quietly_load(full_root))


def without_one_drawing(folder):
    (folder / "images_background/Zeta/character02/0002_07.png").unlink()
    return "images_background/Zeta/character02", "19 drawings instead of 0002_01.png to 0002_20.png"


def without_drawings(folder):
    for drawing in (folder / "images_background/Zeta/character02").iterdir():
        drawing.unlink()
    return "images_background/Zeta/character02", "holds 0 drawings instead of"


def without_an_alphabet(folder):
    shutil.rmtree(folder / "images_evaluation/Psi")
    return "images_evaluation", "1 characters instead of 2"


def half_extracted(folder):
    shutil.rmtree(folder / "images_evaluation")
    (folder / "images_evaluation.zip").write_bytes(b"PK half of it")
    return "images_evaluation", "0 characters instead of 2"


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return "images_background", "0 characters instead of 3"


def with_an_extra_character(folder):
    shutil.copytree(folder / "images_background/Zeta", folder / "images_background/Zeta copy")
    return "images_background", "5 characters instead of 3"


def with_a_character_twice(folder):
    shutil.rmtree(folder / "images_background/Zeta/character02")
    shutil.copytree(folder / "images_background/Zeta/character01", folder / "images_background/Zeta/character02")
    return "", "other numbers than 0001 to 0005"


def with_a_drawing_of_another_character(folder):
    character = folder / "images_background/Zeta/character02"
    (character / "0002_20.png").rename(character / "0001_20.png")
    return "images_background/Zeta/character02", "instead of 0001_01.png to 0001_20.png"


def with_a_truncated_image(folder):
    drawing = folder / "images_evaluation/Psi/character01/0004_20.png"
    drawing.write_bytes(drawing.read_bytes()[:70])
    return "images_evaluation/Psi/character01/0004_20.png", "cannot be read as an image"


def with_an_empty_image(folder):
    (folder / "images_background/Zeta/character01/0001_01.png").write_bytes(b"")
    return "images_background/Zeta/character01/0001_01.png", "cannot be read as an image"


def with_text_for_an_image(folder):
    (folder / "images_background/Zeta/character01/0001_01.png").write_text("404: Not Found")
    return "images_background/Zeta/character01/0001_01.png", "cannot be read as an image"


def with_a_small_image(folder):
    Image.new("1", (28, 28), 1).save(folder / "images_background/Alpha/character01/0003_02.png")
    return "images_background/Alpha/character01/0003_02.png", "28×28 pixels, mode 1 instead of 105×105 pixels"


def with_a_grey_image(folder):
    Image.new("L", (105, 105), 200).save(folder / "images_background/Alpha/character01/0003_02.png")
    return "images_background/Alpha/character01/0003_02.png", "105×105 pixels, mode L instead of"


@pytest.mark.parametrize(
    "damage",
    [without_one_drawing, without_drawings, without_an_alphabet, half_extracted, empty, with_an_extra_character,
     with_a_character_twice, with_a_drawing_of_another_character, with_a_truncated_image, with_an_empty_image,
     with_text_for_an_image, with_a_small_image, with_a_grey_image],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_damaged_folder_is_one_error_that_says_what_where_and_what_to_do(full_root, damage):
    folder = full_root / "omniglot-py"
    where, what = damage(folder)
    with pytest.raises(ValueError) as error:
        quietly_load(full_root)
    assert str(error.value).startswith(f"{folder / where} ")
    assert what in str(error.value)
    assert f"delete {folder}" in str(error.value)
    assert os.listdir(full_root) == ["omniglot-py"]  # no cache, no download


# --- the cache


def test_second_load_needs_the_cache_alone(full_root):
    quietly_load(full_root)
    shutil.rmtree(full_root / "omniglot-py")
    assert_is_stand_in(quietly_load(full_root))
    assert os.listdir(full_root) == [characters.CACHE]


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
    cache = full_root / characters.CACHE
    content = cache.read_bytes()
    cache.write_bytes(damage(content))
    with pytest.warns(UserWarning, match="is damaged and will be built again"):
        assert_is_stand_in(load_characters(full_root))
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
        (full_root / characters.CACHE).write_bytes(hashlib.sha256(content).digest() + content)
        with pytest.warns(UserWarning, match="is damaged and will be built again"):
            assert_is_stand_in(load_characters(full_root))
        assert_is_stand_in(quietly_load(full_root))
    assert not Path("executed").exists()


# --- a process that is killed


LOADING = """
import hashlib, os, signal, sys
from pathlib import Path
from torchvision.datasets import Omniglot
from reptile_helpers import characters

root, moment, address, *md5 = sys.argv[1:]
characters.SETS = {"images_background": 3, "images_evaluation": 2}
Omniglot.zips_md5, Omniglot.download_url_prefix = dict(zip(characters.SETS, md5)), address
replace, read = os.replace, characters._read_drawing


def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def half(path, content):
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    die()


if moment == "a drawing is read":
    characters._read_drawing = lambda path, folder: die() if "0004_07" in path.name else read(path, folder)
if moment == "half of the cache is written":
    Path.write_bytes = half
if moment == "the cache is not yet in its place":
    os.replace = die
if moment == "the cache has come to its place":
    os.replace = lambda source, target: (replace(source, target), die())
characters.load_characters(root)
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
        ("the cache has come to its place", [characters.CACHE]),
    ],
)
def test_killed_while_the_cache_is_built(full_root, moment, files):
    assert loading(full_root, moment).wait(60) == -signal.SIGKILL
    left = [".part" if name.startswith(f".{characters.CACHE}-") else name for name in os.listdir(full_root)]
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
    loaded, written, together, write_bytes = [], [], threading.Barrier(2, timeout=10), Path.write_bytes

    def write_together(path, content):
        written.append(path.name)
        together.wait()
        write_bytes(path, content)
        together.wait()  # both files are there before either is moved

    monkeypatch.setattr(Path, "write_bytes", write_together)
    threads = [threading.Thread(target=lambda: loaded.append(load_characters(full_root))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == len(written) == len(set(written)) == 2
    assert characters.CACHE not in written  # only ever moved into place
    assert sorted(os.listdir(full_root)) == [characters.CACHE, "omniglot-py"]
    assert_is_stand_in(quietly_load(full_root))


# --- the root


def test_root_with_spaces_and_other_letters(server, tmp_path):
    root = tmp_path / "Daten für heute 数据 ✍"
    root.mkdir()
    assert_is_stand_in(quietly_load(root))  # downloaded
    assert_is_stand_in(quietly_load(root))  # from the cache
    (root / characters.CACHE).unlink()
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
def read_only_root(stand_in):
    folder = Path(tempfile.mkdtemp())  # not tmp_path, which nobody else can enter
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_root_that_is_really_read_only(read_only_root, nobody):
    with pytest.raises(PermissionError, match="holds no Omniglot and cannot be written .Permission denied."):
        load_characters(read_only_root)


def test_root_with_data_that_is_really_read_only(read_only_root, stand_in, request):
    read_only_root.chmod(0o755)
    shutil.copytree(stand_in, read_only_root / "omniglot-py")
    read_only_root.chmod(0o555)
    request.getfixturevalue("nobody")
    with pytest.warns(UserWarning, match="cache cannot be written.*Permission denied"):
        assert_is_stand_in(load_characters(read_only_root))
    assert os.listdir(read_only_root) == ["omniglot-py"]


def test_root_that_does_not_exist(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="data folder .*nowhere does not exist"):
        load_characters(tmp_path / "nowhere")
    monkeypatch.setenv("REPTILE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="REPTILE_DATA .*nowhere does not exist"):
        load_characters()
    assert not (tmp_path / "nowhere").exists()


def test_root_that_is_a_file(tmp_path, monkeypatch):
    (tmp_path / "data").write_text("")
    with pytest.raises(NotADirectoryError, match="data is a file"):
        load_characters(str(tmp_path / "data"))
    monkeypatch.setenv("REPTILE_DATA", str(tmp_path / "data"))
    with pytest.raises(NotADirectoryError, match="REPTILE_DATA .*data is a file"):
        load_characters()
    monkeypatch.delenv("REPTILE_DATA")
    place_package(monkeypatch, tmp_path)
    with pytest.raises(NotADirectoryError, match="data is a file"):
        load_characters()


def place_package(monkeypatch, folder):
    """Acts as if the package lay in `folder`, and were used from there."""
    monkeypatch.setattr(characters, "__file__", str(folder / "reptile_helpers" / "characters.py"))
    monkeypatch.chdir(folder)


def test_default_root_is_data_in_the_repository(tmp_path, monkeypatch):
    place_package(monkeypatch, tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert characters._find_root(None) == tmp_path / "data"
    assert (tmp_path / "data").is_dir()
    assert characters._find_root(None) == tmp_path / "data"


def test_default_root_of_an_installed_package_is_data_here(tmp_path, monkeypatch):
    place_package(monkeypatch, tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert characters._find_root(None) == tmp_path / "here" / "data"
    assert (tmp_path / "here" / "data").is_dir()


def test_argument_comes_before_the_variable_and_the_variable_before_the_default(tmp_path, monkeypatch):
    place_package(monkeypatch, tmp_path)
    for name in ("argument", "variable"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("REPTILE_DATA", str(tmp_path / "variable"))
    assert characters._find_root(tmp_path / "argument") == tmp_path / "argument"
    assert characters._find_root(None) == tmp_path / "variable"
    assert not (tmp_path / "data").exists()
    monkeypatch.setenv("REPTILE_DATA", "")
    assert characters._find_root(None) == tmp_path / "data"


def read_only(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_default_root_that_cannot_be_made(tmp_path, monkeypatch):
    place_package(monkeypatch, tmp_path)
    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(PermissionError, match="data cannot be made .Read-only file system.: set REPTILE_DATA"):
        load_characters()


def test_root_with_data_that_cannot_be_written_is_read_with_a_notice(full_root, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)  # a read-only file system says so before it looks for the file
    with pytest.warns(UserWarning, match="cache cannot be written.*Read-only file system"):
        assert_is_stand_in(load_characters(full_root))
    assert os.listdir(full_root) == ["omniglot-py"]


def test_cache_on_a_full_disk_leaves_nothing(full_root, monkeypatch):
    def half(path, content):
        with open(path, "wb") as file:
            file.write(content[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.warns(UserWarning, match="No space left"):
        assert_is_stand_in(load_characters(full_root))
    assert os.listdir(full_root) == ["omniglot-py"]


def test_root_without_data_that_cannot_be_written(root, monkeypatch):
    monkeypatch.setattr(characters.tempfile, "mkdtemp", read_only)
    with pytest.raises(PermissionError, match="root holds no Omniglot and cannot be written .Read-only file system."):
        load_characters(root)


# --- the download, by torchvision's own code, from a server here


class Server(ThreadingHTTPServer):
    """Serves `archives`; `fault` is what goes wrong with the archive `faulty`."""

    archives: dict[str, bytes]
    fault = faulty = None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
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
def server(stand_in, tmp_path, monkeypatch):
    archives = {}
    for part in characters.SETS:
        with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
            for drawing in sorted((stand_in / part).rglob("*.png")):
                archive.write(drawing, drawing.relative_to(stand_in))
        archives[f"{part}.zip"] = (tmp_path / "archive").read_bytes()
    server = Server(("127.0.0.1", 0), Handler)
    server.archives, server.released, server.half_sent = archives, threading.Event(), threading.Event()
    md5 = {part: hashlib.md5(archives[f"{part}.zip"]).hexdigest() for part in characters.SETS}
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
    assert sorted(os.listdir(root)) == [characters.CACHE, "omniglot-py"]
    Omniglot(root, background=True), Omniglot(root, background=False)  # torchvision finds its own folder
    monkeypatch.setattr(Omniglot, "download_url_prefix", "http://127.0.0.1:9")
    assert_is_stand_in(quietly_load(root))
    (root / characters.CACHE).unlink()
    assert_is_stand_in(quietly_load(root))


@pytest.mark.parametrize("faulty", ["images_background.zip", "images_evaluation.zip"])
@pytest.mark.parametrize(
    "fault, reason",
    [("dies half-way", "corrupted"), ("corrupted", "corrupted"), ("not found", "404"), ("silence", "timed out")],
)
def test_failed_download_leaves_nothing_and_the_next_one_works(server, root, monkeypatch, fault, reason, faulty):
    server.fault, server.faulty = fault, faulty
    monkeypatch.setattr(characters, "TIMEOUT", 0.3)
    monkeypatch.setattr(characters, "generate_characters", lambda *shape: torch.zeros(*shape, 28, 28))
    with pytest.warns(UserWarning, match=f"GENERATED.*{reason}"):
        assert load_characters(root).generated
    assert os.listdir(root) == []
    assert socket.getdefaulttimeout() is None
    server.fault = None
    monkeypatch.setattr(characters, "TIMEOUT", 10)
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
    with pytest.warns(UserWarning, match="GENERATED.*corrupted"):
        assert load_characters(root).generated
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
        load_characters(root)
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
    assert sorted(os.listdir(root)) == [characters.CACHE, "omniglot-py"]


def test_download_that_cannot_be_moved_into_place_counts_as_failed(server, root, monkeypatch):
    monkeypatch.setattr(os, "replace", read_only)
    with pytest.warns(UserWarning, match="GENERATED.*Read-only file system"):
        assert load_characters(root).generated
    assert os.listdir(root) == []


# --- generated characters


def test_generated_characters_are_announced_and_never_cached(root):
    with pytest.warns(UserWarning) as notices:
        loaded = load_characters(root)
    assert loaded.generated and loaded.name == "GENERATED characters (not Omniglot)"
    assert loaded.names == [f"Generated/character000{number}" for number in range(1, 6)]
    assert loaded.images.shape == (5, 20, 28, 28) and loaded.images.dtype == torch.uint8
    assert set(loaded.images.unique().tolist()) == {0, 255} and loaded.images.float().mean() > 128
    assert os.listdir(root) == []
    notice = str(notices[0].message)
    assert "GENERATED characters, NOT Omniglot" in notice and "refused" in notice
    assert str(root / "omniglot-py") in notice and "REPTILE_DATA" in notice and "connect to the internet" in notice
    assert notices[0].filename == __file__


def test_generated_characters_are_announced_in_a_red_box_in_a_notebook(root, monkeypatch):
    ipython, shown = pytest.importorskip("IPython"), []
    monkeypatch.setattr(ipython, "get_ipython", lambda: "a running shell")
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append((bundle, raw)))
    assert quietly_load(root).generated
    [(bundle, raw)] = shown
    assert raw and "GENERATED characters, NOT Omniglot" in bundle["text/plain"]
    box = bundle["text/html"]
    assert "GENERATED characters, NOT Omniglot" in box and "solid #d00" in box and "font-weight: bold" in box
    assert "&lt;urlopen error" in box and "<urlopen" not in box


# --- Omniglot itself


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory):
    if not REAL or not Path(REAL, "omniglot-py").is_dir():
        pytest.skip("REPTILE_DATA is no folder with omniglot-py/ in it")
    root = tmp_path_factory.mktemp("real")
    (root / "omniglot-py").symlink_to(Path(REAL, "omniglot-py").absolute())
    assert characters.SETS == {"images_background": 964, "images_evaluation": 659}
    loaded = load_characters(root)
    (root / "omniglot-py").unlink()
    return loaded, root


def test_omniglot(omniglot, monkeypatch):
    monkeypatch.setattr(characters, "SETS", {"images_background": 964, "images_evaluation": 659})
    loaded, root = omniglot
    assert loaded.name == "Omniglot"
    assert loaded.images.shape == (1623, 20, 28, 28) and loaded.images.dtype == torch.uint8
    assert loaded.images.unique().tolist() == [0, 255]
    assert 0.85 < (loaded.images / 255).mean() < 0.95  # mostly paper
    assert loaded.names[708] == "Alphabet_of_the_Magi/character01"
    assert len(set(loaded.names)) == 1623 and len(set(loaded.alphabets)) == 50
    background, evaluation = ({loaded.alphabets[i] for i in part} for part in loaded.omniglot_split())
    assert (len(background), len(evaluation)) == (30, 20) and not background & evaluation
    drawing = Path(REAL, "omniglot-py/images_background/Alphabet_of_the_Magi/character01/0709_01.png")
    with Image.open(drawing) as image:
        assert np.array_equal(loaded.images[708, 0] / 255, np.array(image.resize((28, 28))))
    cached = quietly_load(root)  # the folder is gone
    assert torch.equal(cached.images, loaded.images) and cached.names == loaded.names

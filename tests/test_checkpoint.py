import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from reptile_helpers import checkpoint
from reptile_helpers.checkpoint import load_checkpoint, load_pretrained, save_checkpoint
from reptile_helpers.models import omniglot_cnn


def state():
    weights = {"w": torch.randn(3, 2), "b": torch.randn(3)}
    return {
        "phi": weights, "second_moment": {name: p.square() for name, p in weights.items()}, "adam_steps": 5,
        "train_classes": torch.arange(4), "test_classes": torch.arange(4, 6), "configuration": {"lr": 0.1},
        "iteration": 3, "generator": torch.Generator().get_state(), "curve": [(1, 0.5, 0.1)], "seconds": 1.5,
    }  # fmt: skip


def test_what_is_saved_is_loaded(tmp_path):
    saved, path = state(), tmp_path / "checkpoint.pt"
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert list(loaded) == list(saved) and list(loaded["phi"]) == ["w", "b"]
    for key in ("phi", "second_moment"):
        assert all(torch.equal(loaded[key][name], saved[key][name]) for name in saved[key])
    assert torch.equal(loaded["generator"], saved["generator"]) and loaded["curve"] == saved["curve"]
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state() | {"iteration": 1})
    with pytest.raises(Exception, match="pickle|local object"):  # Python 3.13 words it in another way
        save_checkpoint(path, state() | {"curve": lambda: None})
    assert load_checkpoint(path)["iteration"] == 1
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of a file")
def test_a_disk_that_is_really_full(tmp_path):
    """A limit for the size of a file stands in for the full disk: the system call fails in the middle of writing."""
    import resource

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state() | {"iteration": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(
            OSError, match="File too large: checkpoint.pt cannot be written; the previous file is unchanged"
        ):
            save_checkpoint(path, state())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(path)["iteration"] == 1
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="cannot be written; there is no previous file.*gone"):
        save_checkpoint(tmp_path / "gone" / "checkpoint.pt", state())


def test_padded_files_are_refused_or_read_as_they_were(tmp_path):
    saved, path = state(), tmp_path / "checkpoint.pt"
    save_checkpoint(path, saved)
    good = path.read_bytes()
    for padded in (good + b"\0", good + b"\0" * 70_000, b"\0" + good, b"#!/bin/sh\n" + good, good + good):
        path.write_bytes(padded)
        try:
            loaded = load_checkpoint(path)
        except ValueError as error:
            assert "is damaged" in str(error)
        else:
            assert torch.equal(loaded["phi"]["w"], saved["phi"]["w"]) and loaded["curve"] == saved["curve"]


def test_a_bomb_is_refused_before_it_goes_off(tmp_path, monkeypatch):
    """A file of 10 kB that would become 10 MB. torch.save never compresses, so what is larger inside is refused."""
    path, bomb = tmp_path / "checkpoint.pt", tmp_path / "bomb.pt"
    save_checkpoint(path, state())
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in good.infolist():
            archive.writestr(member.filename, good.read(member))
        archive.writestr("checkpoint/data/9", bytes(10_000_000))
    assert bomb.stat().st_size < 30_000
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda archive: pytest.fail("it was inflated"))
    with pytest.raises(ValueError, match="bomb.pt is damaged: its size does not fit its contents"):
        load_checkpoint(bomb)


def test_pretrained_files_are_those_that_were_published(tmp_path, monkeypatch):
    path = tmp_path / "omniglot_5way.pt"
    save_checkpoint(path, load_pretrained("omniglot_5way") | {"iteration": 1})  # a good checkpoint, but another
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path)
    with pytest.raises(ValueError, match="omniglot_5way.pt is not the published file: its SHA-256"):
        load_pretrained("omniglot_5way")
    monkeypatch.undo()
    assert {path.stem for path in checkpoint.PRETRAINED.glob("*.pt")} == set(checkpoint.SHA256)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_damaged_foreign_and_dangerous_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("checkpoint.pt")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint checkpoint.pt"):
        load_checkpoint(path)
    save_checkpoint(path, state())
    good = path.read_bytes()
    (data,) = [i for i in zipfile.ZipFile(path).infolist() if i.filename.endswith("data/0")]
    flipped = bytearray(good)
    flipped[good.index(state_bytes(path, data))] ^= 1
    for damaged in (b"", good[: len(good) // 2], good[:-1], b"hello", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checkpoint.pt is damaged"):
            load_checkpoint(path)
    torch.save(Bomb(), path)
    with pytest.raises(ValueError, match="is damaged, or is not a checkpoint"):
        load_checkpoint(path)
    assert not Path("exploded").exists()
    for foreign in (
        [1, 2],
        {"phi": {}},
        state() | {"adam_steps": "5"},
        state() | {"second_moment": {"w": torch.ones(1)}},
        *({key: value for key, value in state().items() if key != missing} for missing in state()),
    ):
        torch.save(foreign, path)
        with pytest.raises(ValueError, match="is not a checkpoint of reptile_helpers"):
            load_checkpoint(path)


def state_bytes(path, member):
    return zipfile.ZipFile(path).read(member)


@pytest.mark.parametrize("ways", [5, 20])
def test_pretrained(ways):
    state = load_pretrained(f"omniglot_{ways}way")
    model = omniglot_cnn(ways)
    assert [(name, p.shape) for name, p in model.named_parameters()] == [(n, p.shape) for n, p in state["phi"].items()]
    assert state["iteration"] == state["configuration"]["iterations"]
    assert len(state["train_classes"]) == 1200 and len(state["test_classes"]) == 423
    assert sorted(torch.cat([state["train_classes"], state["test_classes"]]).tolist()) == list(range(1623))
    assert all(p.device.type == "cpu" for p in state["phi"].values())
    with pytest.raises(ValueError, match="name is 'omniglot'; it must be one of omniglot_5way, omniglot_20way"):
        load_pretrained("omniglot")

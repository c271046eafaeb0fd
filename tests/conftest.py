import importlib
import sys

import pytest
import torch


def pytest_runtest_setup(item):
    if item.get_closest_marker("foreign_names") and sys.getfilesystemencoding() == "ascii":
        pytest.skip("file names are ASCII here")


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def offline(monkeypatch):
    """Omniglot cannot be downloaded, and no data folder is named."""
    nobody_listens = "http://127.0.0.1:9"
    monkeypatch.setattr("torchvision.datasets.Omniglot.download_url_prefix", nobody_listens)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("REPTILE_DATA", raising=False)


@pytest.fixture
def few(monkeypatch):
    """Omniglot has five characters."""
    for name, size in (("images_background", 3), ("images_evaluation", 2)):
        monkeypatch.setitem(importlib.import_module("reptile_helpers.omniglot_files").SETS, name, size)


@pytest.fixture
def root(tmp_path):
    """An empty data folder."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder

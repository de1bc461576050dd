"""The examples in docstrings and in the documentation say what they do."""

import doctest
import importlib
from pathlib import Path

import pytest

import thresher.accel

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "python").glob("*.md"))
MODULES = ("elastic_net", "elastic_net_cv", "ridge_models")


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(f"thresher.{name}")
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page, tmp_path, monkeypatch):
    # They read tests/data, and what they write stays out of the tree.
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    thresher.accel.reset_counts()
    found = doctest.testfile(str(page), module_relative=False)
    assert found.failed == 0

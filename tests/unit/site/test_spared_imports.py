import importlib
import sys

import pytest

from llmproxy_site.spared_imports import spared


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """A package that is installed and not imported yet."""
    (tmp_path / "optional_extra.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("optional_extra", None)


def test_within_it_the_package_is_not_there():
    with spared("optional_extra"), pytest.raises(ImportError):
        importlib.import_module("optional_extra")


def test_afterwards_it_can_be_imported():
    with spared("optional_extra"):
        pass
    importlib.import_module("optional_extra")


def test_what_was_imported_before_stays():
    before = importlib.import_module("optional_extra")
    with spared("optional_extra"):
        assert importlib.import_module("optional_extra") is before
    assert sys.modules["optional_extra"] is before

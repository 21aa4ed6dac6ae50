"""`file:NAME` references are read from the secrets directory and from nowhere else."""

import pytest

from routing.config.references import resolve
from routing.config.schema import Configuration


def key_and_missing(secrets_dir, reference="file:key"):
    model = {"name": "e", "model": "m", "params": {"api_key": reference}}
    configuration = Configuration.model_validate({"model_groups": [{"model_group": "g", "models": [model]}]})
    resolution = resolve(configuration, {}, secrets_dir, {})
    return resolution.configuration.model_groups[0].models[0].params.api_key, resolution.missing


def test_a_secret_file_is_read_without_its_last_line_break(tmp_path):
    (tmp_path / "key").write_text("sk-1\n")

    assert key_and_missing(tmp_path) == ("sk-1", {})


def test_a_secret_file_may_stand_in_a_directory_below(tmp_path):
    (tmp_path / "azure").mkdir()
    (tmp_path / "azure" / "key").write_text("sk-1")

    assert key_and_missing(tmp_path, "file:azure/key") == ("sk-1", {})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 70_000, b"", b"\n", b"two\nlines"])
def test_an_unusable_secret_file_is_missing(tmp_path, content):
    (tmp_path / "key").write_bytes(content)

    assert key_and_missing(tmp_path) == (None, {"e": ("file:key",)})


def test_a_directory_instead_of_a_file_is_missing(tmp_path):
    (tmp_path / "key").mkdir()

    assert key_and_missing(tmp_path) == (None, {"e": ("file:key",)})

"""Fixtures of the tests of dataset preparation."""

import pytest


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The annotation folder that the environment names; nothing is in it yet."""
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path / "json"))
    return tmp_path / "json"

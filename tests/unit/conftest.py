"""Unit tests start no process, so that they stay quick."""

import subprocess

import pytest


@pytest.fixture(autouse=True)
def _no_process(monkeypatch):
    def refuse(*command, **_):
        raise AssertionError(f"a unit test starts {command}; put it into tests/integration")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    # else it looks at what was never made
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda self: None)

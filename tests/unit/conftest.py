"""Unit tests start no process, so that they stay quick."""

import subprocess

import pytest

FONTS = "fc-list"
"""matplotlib asks it for the fonts, once on each machine"""


@pytest.fixture(autouse=True)
def _no_process(monkeypatch):
    begin = subprocess.Popen.__init__

    def refuse(self, command, *rest, **options):
        if command[0] == FONTS:
            begin(self, command, *rest, **options)
            return
        self.returncode = None  # its text and its end look at it
        raise AssertionError(f"a unit test starts {command}; put it into tests/integration")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    # else it looks at what was never made
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda self: None)

"""Standard output and error of any kind, as a recipe's main meets them."""

import io
import os
import subprocess
import sys

import pytest

from hf_lgt.commands import cli
from tests.conftest import ROOT

WORK = """
import os, sys
from hf_lgt.commands import cli

def work():
    for _ in range(10000):
        print("exact match at lengths ≤ 16")
        print("loss → 0", file=sys.stderr)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        assert file.fileno() > 2
        file.write("whole")
    return 0

cli.parser("What it does.", keys=False)
sys.exit(cli.guard(work))
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def call(folder, redirected, **environment):
    """(status, what was written to both streams) of a recipe in a shell."""
    (folder / "recipe.py").write_text(WORK, encoding="utf-8")
    command = f'"{sys.executable}" "{folder}/recipe.py" "{folder}/out" {redirected}'
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        timeout=60,
    )
    assert (folder / "out").read_text() == "whole"
    assert b"Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("python", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize(
    ("redirected", "status", "told"),
    [
        (">&-", 0, b""),
        (">&- 2>&- <&-", 0, b""),
        ("2>/dev/full", 0, b""),
        (">/dev/full 2>&1", 1, b""),
        (">/dev/full", 1, b"error: standard output could not be written: No space left on device"),
        ("> >(head -c 1 >/dev/null)", 141, b""),
    ],
)
def test_no_stream_ends_a_program(tmp_path, redirected, status, told, python):
    code, _, error = call(tmp_path, redirected, **python)
    assert (code, told in error) == (status, True)


@pytest.mark.parametrize(
    ("environment", "sign"),
    [
        ({"PYTHONIOENCODING": "cp1252"}, b"\\u2264"),
        ({"PYTHONIOENCODING": "ascii:strict"}, b"\\u2264"),
        (ASCII, b"\\u2264"),
        ({"PYTHONIOENCODING": "utf-8"}, "≤".encode()),
    ],
)
def test_what_an_encoding_lacks_is_escaped(tmp_path, environment, sign):
    code, out, _ = call(tmp_path, "", **environment)
    assert code == 0
    assert out.startswith(b"exact match at lengths " + sign + b" 16\n")


def test_a_stream_that_does_not_wait_is_waited_for():
    read, write = os.pipe()
    os.set_blocking(write, False)
    code = "import sys; from hf_lgt.commands import cli; cli.parser(''); "
    code += "sys.exit(cli.guard(lambda: print('x' * 10**6)))"
    with os.fdopen(write, "wb"):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=write, cwd=ROOT)
    with os.fdopen(read, "rb") as pipe:
        assert len(pipe.read()) == 10**6 + 1
    assert child.wait() == 0


def test_a_stream_of_a_notebook_or_a_test_is_kept(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    cli.parser("What it does.", keys=False)
    assert sys.stdout is stream
    sys.stdout.write("≤\n")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u2264\n"

"""Starts and ends of a program without needless searches for garbage."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from hf_lgt.utils.startup import OBJECTS, rare_collections

PROGRAM = """
import atexit, gc
from hf_lgt.commands import cli
atexit.register(lambda: print("at the end", gc.get_freeze_count() > 1000))  # before it, so that it runs after
print("before", before := gc.get_threshold()[0])
cli.guard(lambda: print("within", gc.get_threshold()[0]) or 0)
print("after", gc.get_threshold()[0] == before)
"""


@pytest.fixture
def thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("own", "within"), [(700, OBJECTS), (OBJECTS * 2, OBJECTS * 2), (0, 0)])
def test_garbage_is_looked_for_less_often_and_a_users_choice_is_kept(thresholds, own, within):
    gc.set_threshold(own, 7, 8)
    with pytest.raises(KeyError), rare_collections():
        assert gc.get_threshold() == (within, 7, 8)
        raise KeyError
    assert gc.get_threshold() == (own, 7, 8)


def test_a_recipe_does_so_and_its_end_is_spared_the_search():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, *told = done.stdout.splitlines()
    assert int(first.split()[1]) < OBJECTS
    assert told == [f"within {OBJECTS}", "after True", "at the end True"]

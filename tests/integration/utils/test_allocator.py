"""Freed memory is kept, where glibc can do so and nobody has set it otherwise."""

import os
import platform
import subprocess
import sys

import pytest

WORK = """
import resource, sys
import numpy as np
from hf_lgt.utils.allocator import keep_freed_memory
done = sys.argv[1] == "keep" and keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**22, dtype=np.float32)
before = faults()
for _ in range(20):
    np.ones(2**22, dtype=np.float32)  # 16 MiB, 4096 pages
print(done, faults() - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")


def run(how, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC")}
    kept.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", WORK, how], env=kept | environment, capture_output=True, text=True, check=True
    )
    told, faults = done.stdout.split()
    return told == "True", int(faults)


def test_pages_are_not_asked_for_again():
    told, faults = run("keep")
    assert told
    plain = run("leave")[1]
    assert plain > 100  # else there is nothing to save
    assert faults < plain / 4


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_a_choice_in_the_environment_stands(name):
    assert run("keep", **{name: "131072"})[0] is False

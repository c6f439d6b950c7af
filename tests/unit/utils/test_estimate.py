"""The time that a training will take, told once."""

import pytest

from hf_lgt.utils import progress
from hf_lgt.utils.progress import Estimate


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves a second a step."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("taken", "last", "told"), [(0, 3620, "about 60 minutes"), (100, 3720, "about 60 minutes")]
)
def test_it_is_told_once_of_the_steps_that_are_left(clock, taken, last, told):
    estimate = Estimate(taken, last)
    found = []
    for step in range(taken + 1, taken + 60):
        clock[0] += 1.0
        found.append(estimate.after(step))
    assert [text for text in found if text] == ["about 60 minutes, evaluations aside"]
    assert found[19]


def test_what_ends_soon_is_not_worth_telling(clock):
    estimate = Estimate(0, 60)
    for step in range(1, 60):
        clock[0] += 1.0
        assert estimate.after(step) == ""

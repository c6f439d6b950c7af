"""The runs that comparisons and sweeps start begin as forks, which spares their imports."""

import pytest

from tests.support.forked import Forked


@pytest.fixture(autouse=True)
def _forked_runs(request, monkeypatch):
    if request.node.get_closest_marker("real_processes") is None:
        monkeypatch.setattr("hf_lgt.experiments.launch.Popen", Forked)

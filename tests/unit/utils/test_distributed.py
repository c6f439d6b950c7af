"""Which errors say that another process of a launch is gone: by type, where torch has one."""

import socket
from datetime import timedelta

import pytest
from torch import distributed

from hf_lgt.utils.distributed import LOST, lost_process, told_of_others

APART = "the processes of this launch cannot work together: "
CLOSED = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1"


def store(port=0, *, holds=True):
    return distributed.TCPStore("127.0.0.1", port, None, holds, timedelta(seconds=1))


def raised(work):
    with pytest.raises(distributed.DistError) as caught:
        work()
    return caught.value


def test_a_store_that_is_gone_during_a_launch_is_a_lost_process(monkeypatch):
    held = store()
    asks = store(held.port, holds=False)
    asks.set("a", "b")
    del held
    error = raised(lambda: asks.get("a"))
    assert type(error) is distributed.DistNetworkError
    assert told_of_others(error).startswith(APART)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    assert told_of_others(error) == LOST


def test_a_port_that_is_taken_is_no_lost_process():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        error = raised(lambda: store(taken.getsockname()[1]))
    assert type(error) is distributed.DistNetworkError
    assert "EADDRINUSE" in told_of_others(error).removeprefix(APART)


def test_a_process_that_does_not_come_may_still_live(monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    held = store()
    error = raised(lambda: held.get("nothing"))
    assert type(error) is distributed.DistStoreError
    assert told_of_others(error).startswith(APART)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError(CLOSED), True),
        (RuntimeError(CLOSED.replace("gloo", "http")), False),
        (RuntimeError("[gloo/transport/tcp/pair.cc:553] Read timeout"), False),
        (ValueError(CLOSED), False),
        (NotImplementedError(CLOSED), False),
        (distributed.DistStoreError(CLOSED), False),
        (distributed.DistBackendError("ncclRemoteError: possibly a network error"), True),
        (distributed.DistBackendError("ncclInvalidUsage: Duplicate GPU detected"), False),
        (RuntimeError("ncclRemoteError: A call failed"), False),
    ],
)
def test_texts_count_only_in_types_that_do_not_say(error, lost):
    assert lost_process(error) is lost

"""Which errors of the Hub's client may pass: by its types, whichever HTTP library it uses."""

import importlib
import json

import pytest
from huggingface_hub import errors

from data_builders.hub.push import PushError
from data_builders.hub.retry import may_pass

http = importlib.import_module(errors.HTTPError.__module__)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        http.ConnectError("refused"),
        http.ReadTimeout("slow"),
        http.RemoteProtocolError("cut off"),
        http.TooManyRedirects("again and again"),
        ConnectionResetError(104, "Connection reset by peer"),  # what hf_xet raises too
        TimeoutError("slow"),
        json.JSONDecodeError("no value", "<html>", 0),
        caused(errors.LocalEntryNotFoundError("not in the cache"), http.ConnectError("refused")),
        caused(RuntimeError("one of several files"), http.ConnectError("refused")),
    ],
)
def test_what_happens_on_the_way_to_the_hub_may_pass(error):
    assert may_pass(error)


class TransportError(Exception):
    """Has the name of one of the HTTP library's, and that is all."""


@pytest.mark.parametrize(
    "error",
    [
        http.LocalProtocolError("an illegal header"),
        http.UnsupportedProtocol("ftp"),
        http.InvalidURL("//"),
        errors.OfflineModeIsEnabled("HF_HUB_OFFLINE=1"),
        errors.LocalEntryNotFoundError("not in the cache"),
        caused(errors.LocalEntryNotFoundError("not in the cache"), errors.OfflineModeIsEnabled("offline")),
        PermissionError(13, "Permission denied"),
        PushError("Connection reset by peer"),
        ValueError("Connection reset by peer"),
        RuntimeError("Connection reset by peer"),
        TransportError("cut off"),
    ],
)
def test_what_stays_as_it_is_does_not(error):
    assert not may_pass(error)

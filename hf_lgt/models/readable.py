"""What libraries raise over a model's files, as one message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data_builders.redaction import redact
from hf_lgt.utils.errors import ConfigError


@contextmanager
def readable(where: str, key: str = "") -> Iterator[None]:
    """Turns whatever a damaged or foreign model makes the libraries raise into one message.

    Args:
        where: what is read.
        key: the setting that names it, if any.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # JSON, tokenizers, safetensors, gguf and torch each raise their own
        reason = redact(" ".join(str(error).split()))
        named = f"{key}: {where}" if key else where
        fault = f"{named} cannot be loaded: {type(error).__name__}: {reason[:300]}"
        # no type says so: transformers raises a plain ValueError
        if type(error) is ValueError and "trust_remote_code" in reason:
            fault = f"model.trust_remote_code: {where} needs Python code that comes with it; true runs it"
        raise ConfigError([fault]) from None

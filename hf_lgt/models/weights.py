"""The weights of a model's folder, refused where they are not those of its model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_lgt.models.readable import readable
from hf_lgt.utils.errors import ConfigError

_NUMBERED = re.compile(r"(.*?\.)[0-9]+\.")


def load_weights(folder: Path, where: str, key: str = "", **options: Any) -> Any:
    """A causal language model with the weights of a folder, on the CPU.

    Args:
        folder: what `from_pretrained` reads.
        where: what messages name.
        key: the setting that names it, if any.
        options: further ones of `from_pretrained`.

    Raises:
        ConfigError: it cannot be read, or its weights are not those of the model: some are missing, have
            another shape, or are of layers that its ``config.json`` leaves out.
    """
    from transformers import AutoModelForCausalLM

    from hf_lgt.models import looped  # noqa: F401  lets transformers know the family

    with readable(where, key), _without_report():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
        model, report = loaded
    if fault := _fault(model, report):
        begin = f"{key}: " if key else ""
        raise ConfigError(
            [f"{begin}the weights of {where} are not those of a {type(model).__name__}: {fault}"]
        )
    return model


def _fault(model: Any, report: Any) -> str | None:
    """How weights and a model made of its ``config.json`` do not fit; other weights besides are not used."""
    lacking = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if lacking:
        return f"{len(lacking)} are missing or have another shape, as {lacking[0]}"
    stacks = {found[1] for key in model.state_dict() if (found := _NUMBERED.match(key))}
    layers = sorted(
        key for key in report["unexpected_keys"] if (found := _NUMBERED.match(key)) and found[1] in stacks
    )
    return f"{len(layers)} are of layers that its config.json leaves out, as {layers[0]}" if layers else None


@contextmanager
def _without_report() -> Iterator[None]:
    """No table of keys from transformers, whose contents are checked and reported in one line."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)

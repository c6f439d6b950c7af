"""What a config or a model folder would take of this machine's memory and time, told before it is taken."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_builders.reading import read_json
from hf_lgt.utils.errors import ConfigError

MOST_LAYERS = 1024
"""layers of a model, or experts of a layer: each is made by itself, and takes time however small it is"""
BYTES = 2
"""of a weight in bfloat16, the smallest type that models are kept in"""
_COUNTS = re.compile(r"(layers?|blocks?|experts)$")
"""keys of a model's config.json that say how many parts are made"""
_WIDTHS = ("hidden_size", "n_embd", "d_model")


def limit() -> int:
    """Bytes of memory that this process can have, swap included."""
    import psutil  # type: ignore[import-untyped,unused-ignore]

    there = int(psutil.virtual_memory().total + psutil.swap_memory().total)
    try:
        group = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        group = "max"
    return min(there, int(group)) if group.isdecimal() else there


def require(needed: int, told: str) -> None:
    """Refuse what cannot be held in memory.

    Args:
        needed: bytes, rather too few than too many.
        told: the setting, and what it makes, for the message.

    Raises:
        ConfigError: it is more than there is.
    """
    if needed > (there := limit()):
        takes, has = min(needed, 10**24) / 1e9, there / 1e9
        raise ConfigError(
            [f"{told} takes at least {takes:,.0f} GB of memory; this machine has {has:,.1f} GB"]
        )


def check_model_folder(folder: Path, told: str) -> None:
    """Refuse a model whose ``config.json`` has sizes that cannot be, before a library builds it.

    Args:
        folder: of the model; a file that cannot be read is left to the library.
        told: how messages begin, as with a setting.

    Raises:
        ConfigError: it has too many layers, or would not fit into memory.
    """
    try:
        data = read_json(folder / "config.json")
    except OSError:
        return
    for part in _mappings(data):
        for key, value in part.items():
            if _COUNTS.search(key) and type(value) is int and value > MOST_LAYERS:
                shown = value if value < 10**18 else "a number"
                raise ConfigError(
                    [f"{told}: its config.json has {key} {shown}; at most {MOST_LAYERS} are built"]
                )
        width = next((w for name in _WIDTHS if type(w := part.get(name)) is int and w > 0), 0)
        layers = [v for k, v in part.items() if _COUNTS.search(k) and "expert" not in k and type(v) is int]
        rows = part.get("vocab_size")
        weights = max(rows if type(rows) is int else 0, 0) * width + max([*layers, 0]) * width**2
        require(weights * BYTES, f"{told}: a model of the sizes in its config.json")


def _mappings(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        yield data
        for value in data.values():
            yield from _mappings(value)


def told_of_memory(error: BaseException) -> str | None:
    """The message of an error that says that there was too little memory; None: it is another."""
    torch = sys.modules.get("torch")  # not imported for the errors of what works without it
    text = " ".join(str(error).split())
    if not (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        # no type says so on a CPU, where torch raises a plain RuntimeError
        or (type(error) is RuntimeError and "can't allocate memory" in text)
    ):
        return None
    advice = "a smaller train.batch_size, eval.examples, eval.batch_tokens or model takes less"
    return f"out of memory: {text[:200]}; {advice}"

"""Low-rank adapters on disk: saved and read by PEFT, with the rows of added tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lgt.utils.errors import ConfigError

if TYPE_CHECKING:
    from peft import PeftModel


ADAPTER_FILE = "adapter_model.safetensors"


def is_adapted(model: Any) -> bool:
    """Whether a model is one of `add_adapters`."""
    return hasattr(model, "peft_config")


def save_adapters(model: Any, folder: Path, state: Mapping[str, Any] | None = None) -> None:
    """Write ``adapter_model.safetensors`` and ``adapter_config.json``: adapters and added rows, no base.

    Args:
        model: from `add_adapters`.
        folder: where they go.
        state: all the weights, where the model holds only a part of them.
    """
    # "auto" would ask the Hub for the base's vocabulary; the rows that were added are saved anyhow
    model.save_pretrained(folder, save_embedding_layers=False, state_dict=state)
    # a card of PEFT's template, which says nothing of this run
    (folder / "README.md").unlink(missing_ok=True)


def load_adapted(model: Any, folder: Path) -> PeftModel:
    """A base model, with a row for each token of the saved tokenizer, with saved adapters and rows.

    Args:
        model: the base model.
        folder: what `save_adapters` wrote.

    Raises:
        ConfigError: there are none in safetensors; PEFT would read a pickle, or ask the Hub.
        ValueError: they are those of another model; PEFT would leave out what it does not know, and begin
            anew what it lacks.
    """
    from peft import PeftModel

    if not (folder / ADAPTER_FILE).is_file():
        raise ConfigError([f"{folder} cannot be loaded: it has no {ADAPTER_FILE}"])

    with warnings.catch_warnings(), _of_this_model(folder):
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys")  # refused below
        adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True, is_trainable=True)
    read_adapters(adapted, folder)
    return adapted.eval()


def read_adapters(model: Any, folder: Path) -> None:
    """Set the adapters and rows of a model from `add_adapters` to those that were saved.

    Raises:
        ValueError: they are those of another model or other adapters.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    state = load_file(folder / ADAPTER_FILE, device=str(next(model.parameters()).device))
    with _of_this_model(folder):
        result: Any = set_peft_model_state_dict(model, state)
    # a tied output has the rows of the input under a name of its own, which is not saved
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    lacking = sorted(trained.intersection(result.missing_keys))
    if lacking or result.unexpected_keys:
        raise ValueError(
            f"{folder} has not the adapters of this model: {[*lacking, *result.unexpected_keys][0]}"
        )


@contextmanager
def _of_this_model(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:  # rows that were not saved
        raise ValueError(f"{folder} has not the adapters of this model: {error.args[0]}") from None

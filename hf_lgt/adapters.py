"""Low-rank adapters (LoRA, arXiv 2106.09685) by PEFT: added, saved, read back, merged.

Rows of tokens that the checkpoint's tokenizer lacked are trained beside the adapters, and saved with
them: without these rows a reloaded model would read tags that it never learned.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.registry import unknown
from hf_lgt.config import PeftConfig
from hf_lgt.errors import ConfigError

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FILE = "adapter_model.safetensors"


def add_adapters(
    model: Any, config: PeftConfig, added: Sequence[int], seed: int, *, base: str, revision: str | None = None
) -> PeftModel:
    """Wrap a model so that only adapters and the rows of added tokens are trained.

    Args:
        model: a causal language model of transformers.
        config: rank, scale and layers of the adapters.
        added: ids of the tokens whose rows are trained too.
        seed: draws the adapters; torch's global generator is left as it was.
        base: name of the base model, which the saved adapters refer to.
        revision: its revision.

    Raises:
        ConfigError: a name of `target_modules` is that of no linear layer between embedding and output.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    _check_layers(model, config.target_modules or [])
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # any number scales
        lora_dropout=config.dropout,
        target_modules=config.target_modules or "all-linear",
        exclude_modules=_frozen(model) or None,
        trainable_token_indices=_rows(model, added) if added else None,
        revision=revision,
    )
    # what the saved adapters name as their base, wherever it lay on this disk
    model.name_or_path = model.config._name_or_path = base
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)
        # PEFT asks for it by a name that transformers gives up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # GPT-2 keeps its matrices the other way round, which PEFT sees and says
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
        wrapped: Any = get_peft_model(model, lora)
    return wrapped  # type: ignore[no-any-return]


def _frozen(model: Any) -> list[str]:
    """Names of the layers that are not trained: those of a model's parts that are not for text."""
    layers = ((name, [*layer.parameters(recurse=False)]) for name, layer in model.named_modules())
    return [name for name, own in layers if own and not any(p.requires_grad for p in own)]


def _check_layers(model: Any, wanted: Sequence[str]) -> None:
    """Refuse names of no linear layer, which PEFT would overlook beside others; also the output's."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    outer, frozen = (model.get_input_embeddings(), model.get_output_embeddings()), _frozen(model)
    linear = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Linear, Conv1D))
        and not any(layer is other for other in outer)
        and name not in frozen
    ]
    known = sorted({name.rpartition(".")[2] for name in linear})
    faults = [
        f"peft.target_modules: {unknown('layer', name, known)}"
        for name in wanted
        if not any(f".{layer}".endswith(f".{name}") for layer in linear)
    ]
    if faults:
        raise ConfigError(faults)


def _rows(model: Any, added: Sequence[int]) -> dict[str, list[int]]:
    """Names of the embedding and, where it is another matrix, of the output, with the rows to train."""
    names = {module: name for name, module in model.named_modules()}
    layers = [model.get_input_embeddings()]
    output = model.get_output_embeddings()
    if output is not None and output.weight is not layers[0].weight:
        layers.append(output)
    return {names[layer]: [*added] for layer in layers}


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


def merged(model: Any) -> Any:
    """The model with its adapters in its weights, as one of transformers; the wrapper is used up."""
    return model.merge_and_unload()

"""Low-rank adapters (LoRA, arXiv 2106.09685) by PEFT: added, saved, read back, merged.

Rows of tokens that the checkpoint's tokenizer lacked are trained beside the adapters, and saved with
them: without these rows a reloaded model would read tags that it never learned.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_builders.registry import unknown
from hf_lgt.config.schema import PeftConfig
from hf_lgt.utils.errors import ConfigError

if TYPE_CHECKING:
    from peft import PeftModel


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


def merged(model: Any) -> Any:
    """The model with its adapters in its weights, as one of transformers; the wrapper is used up."""
    return model.merge_and_unload()

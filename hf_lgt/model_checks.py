"""Faults of a config's model: sizes that do not fit, keys of a checkpoint without one, adapters."""

from __future__ import annotations

from collections.abc import Iterator

from hf_lgt.schema import Config, ModelConfig, PeftConfig, short

Fault = tuple[tuple[str, ...], str]
"""the keys that a fault comes from, and its words"""

OWN_SIZES = (
    "architecture", "layers", "hidden_size", "heads", "kv_heads", "intermediate_size", "positions",
    "rope_theta", "initializer_range", "tie_embeddings",
)  # fmt: skip
"""keys of a model of its own"""
_CHECKPOINT_KEYS = ("revision", "use_safetensors", "trust_remote_code")


def checkpoint_faults(config: Config) -> Iterator[Fault]:
    """Keys that are for a checkpoint without one, and the reverse."""
    model, default = config.model, ModelConfig()
    if model.name_or_path is None:
        if model.init == "pretrained":
            yield (
                ("model.name_or_path", "model.init"),
                "model.name_or_path: is missing; model.init 'pretrained' needs a Hub id or a local folder",
            )
        for key in (*_CHECKPOINT_KEYS, "tokenizer"):
            value = getattr(model, key)
            if value != getattr(default, key) and (key != "tokenizer" or value == "text"):
                yield (
                    (f"model.{key}", "model.name_or_path"),
                    f"model.{key}: {short(value)} is for a checkpoint; model.name_or_path names none",
                )
    else:
        for key in OWN_SIZES:
            if getattr(model, key) != getattr(default, key):
                yield (
                    (f"model.{key}", "model.name_or_path"),
                    f"model.{key}: {short(getattr(model, key))} is for a model of its own; "
                    f"{short(model.name_or_path)} has its own sizes, leave the key out",
                )
        if model.tokenizer == "words":
            yield (
                ("model.tokenizer", "model.name_or_path"),
                "model.tokenizer: 'words' is for a model of its own; with a checkpoint take 'symbols', or "
                "'text' for texts of a dataset",
            )
    if model.tokenizer == "text" and config.data.source == "generated":
        yield (
            ("model.tokenizer", "data.source"),
            "model.tokenizer: 'text' is for a dataset; with data.source 'generated' take 'symbols'",
        )
    yield from _peft_faults(config)


def _peft_faults(config: Config) -> Iterator[Fault]:
    peft, default = config.peft, PeftConfig()
    if peft.method == "none":
        for key in ("rank", "alpha", "dropout", "target_modules"):
            if getattr(peft, key) != getattr(default, key):
                yield (
                    (f"peft.{key}", "peft.method"),
                    f"peft.{key}: {short(getattr(peft, key))} is for peft.method 'lora', which is 'none'",
                )
    elif config.model.init == "random":
        yield (
            ("peft.method", "model.init"),
            f"peft.method: {peft.method!r} adapts a pretrained model; model.init is 'random'",
        )
    if peft.target_modules == []:
        yield ("peft.target_modules",), "peft.target_modules: is empty; null adapts all linear layers"


def model_faults(model: ModelConfig) -> Iterator[Fault]:
    """Sizes of a model of its own that do not fit each other."""
    if model.name_or_path is not None:
        return
    if model.initializer_range > 1:  # transformers takes no more
        yield (
            ("model.initializer_range",),
            f"model.initializer_range: {model.initializer_range} must be at most 1",
        )
    width, heads, kv_heads = model.hidden_size, model.heads, model.kv_heads
    keys = ("model.heads", "model.hidden_size")
    if width % heads:
        yield keys, f"model.heads: {heads} does not divide model.hidden_size, {width}"
    elif model.architecture == "gpt_neox" and width // heads % 8:
        yield (
            (*keys, "model.architecture"),
            f"model.heads: {heads} of model.hidden_size {width} makes heads {width // heads} wide; the "
            "width must be a multiple of 8 for model.architecture 'gpt_neox', which rotates a quarter",
        )
    elif model.positions == "rope" and width // heads % 2:
        yield (
            (*keys, "model.positions"),
            f"model.heads: {heads} of model.hidden_size {width} makes heads {width // heads} wide; the "
            "width must be even for model.positions 'rope'",
        )
    if model.architecture == "gpt_neox":
        for key in ("kv_heads", "positions"):
            if (value := getattr(model, key)) != getattr(ModelConfig(), key):
                yield (
                    (f"model.{key}", "model.architecture"),
                    f"model.{key}: {short(value)} is for 'llama'; model.architecture is 'gpt_neox'",
                )
    if kv_heads and heads % kv_heads:
        keys = ("model.heads", "model.kv_heads")
        yield keys, f"model.kv_heads: {kv_heads} does not divide model.heads, {heads}"

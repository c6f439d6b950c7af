"""Faults of a config's model: sizes and positions that do not fit, keys of a checkpoint, adapters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from data_builders.registry import coupled_tasks, get_task, list_tasks
from data_builders.sampling import stream, widths
from data_builders.tasks.coupling import numbers_needed
from hf_lgt.config.schema import GGUF, ComponentConfig, Config, ModelConfig, PeftConfig, short

Fault = tuple[tuple[str, ...], str]
"""the keys that a fault comes from, and its words"""

OWN_SIZES = (
    "architecture", "config", "layers", "hidden_size", "heads", "kv_heads", "intermediate_size", "positions",
    "rope_theta", "initializer_range", "tie_embeddings",
)  # fmt: skip
"""keys of a model trained from scratch"""
RANGE_KEYS = ("model.position_ids", "model.position_range", "data.tags")
"""keys that `range_fault` comes from, beside those of a length"""
CHECKED = ("llama", "gpt_neox", "bloom")
"""families whose sizes are checked here"""
_CHECKPOINT_KEYS = ("gguf_file", "revision", "use_safetensors", "trust_remote_code")


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
                    f"model.{key}: {short(getattr(model, key))} is for a model trained from scratch; "
                    f"{short(model.name_or_path)} has its own sizes, leave the key out",
                )
        if (file := model.gguf_file) is not None and (
            not file.endswith(GGUF) or ".." in PurePath(file).parts or PurePath(file).is_absolute()
        ):
            yield (
                ("model.gguf_file",),
                f"model.gguf_file: {short(file)} must be the name of a {GGUF} file in model.name_or_path",
            )
        if model.gguf_file is not None and str(model.name_or_path).endswith(GGUF):
            yield (
                ("model.gguf_file", "model.name_or_path"),
                f"model.gguf_file: {short(model.gguf_file)} is for a folder or the Hub; model.name_or_path "
                f"{short(model.name_or_path)} is a file already, leave the key out",
            )
        if model.tokenizer == "words":
            yield (
                ("model.tokenizer", "model.name_or_path"),
                "model.tokenizer: 'words' is for a model trained from scratch; with a checkpoint take "
                "'symbols', or 'text' for texts of a dataset",
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


def position_faults(config: Config) -> Iterator[Fault]:
    """Numbers of positions that the model, the data or a task cannot have."""
    model, policy = config.model, config.model.position_ids
    if policy == "sequential":
        if model.position_range is not None:
            yield (
                ("model.position_range", "model.position_ids"),
                f"model.position_range: {model.position_range} is for model.position_ids 'randomized', "
                "'coupled' or 'abacus', not 'sequential'",
            )
        return
    if model.name_or_path is None and model.positions != "rope":
        yield (
            ("model.position_ids", "model.positions"),
            f"model.position_ids: {policy!r} makes no difference with model.positions "
            f"{model.positions!r}, which reads no position IDs; take 'rope', or position_ids "
            "'sequential'",
        )
    if model.position_range and model.position_limit and model.position_range > model.position_limit:
        yield (
            ("model.position_range", "model.max_positions"),
            f"model.position_range: {model.position_range} is more than model.max_positions, "
            f"{model.position_limit}",
        )
    if policy == "randomized":
        return
    if config.data.source == "dataset":
        yield (
            ("model.position_ids", "data.source"),
            f"model.position_ids: {policy!r} is for data.source 'generated': rows of a dataset need not be "
            "written as its tasks write theirs; take 'sequential' or 'randomized'",
        )
        return
    for i, c in enumerate(config.mixture):
        if c.task in list_tasks() and not get_task(c.task).restarts:
            yield (
                ("model.position_ids", f"mixture.{i}.task"),
                f"mixture.{i}.task: {c.task!r} has no {policy} positions, which model.position_ids asks for; "
                f"the tasks that have are {', '.join(coupled_tasks())}",
            )


def head_faults(config: Config) -> Iterator[Fault]:
    """Heads of roles that the model does not have, or that the training cannot keep apart."""
    model, train, policy = config.model, config.train, config.model.role_heads
    if policy == "all":
        return
    if model.name_or_path is None and model.heads < 2:
        yield (
            ("model.role_heads", "model.heads"),
            f"model.role_heads: {policy!r} takes two heads a layer; model.heads is {model.heads}",
        )
    for key in ("compile", "gradient_checkpointing"):
        if getattr(train, key):
            yield (
                ("model.role_heads", f"train.{key}"),
                f"model.role_heads: {policy!r} works without train.{key} only; set that to false",
            )


def range_fault(
    config: Config, c: ComponentConfig, length: int, limit: int | None, whose: str, more: int = 0
) -> str | None:
    """Why there are too few position IDs for a component's examples of a length, if so.

    Args:
        config: the run.
        c: a component without faults.
        length: a length that its task can draw.
        limit: longest sequence in tokens, None: not known yet.
        whose: what has this limit, for the message.
        more: tokens that an answer may have more than the right one.
    """
    policy, given, task = config.model.position_ids, config.model.position_range, get_task(c.task)
    size = limit if given is None else given
    if size is None or policy == "sequential":
        return None
    tags = config.data.tags
    if policy == "randomized":
        need = sum(widths(task, length, c.options)) + (3 if tags else 2)  # BOS, tag, EOS
    elif task.restarts:
        sample = task.sample(stream(0, "check"), length, 4, **c.options)
        need = numbers_needed(sample, task.restarts, tags=tags)
    else:
        return None  # told already
    need += more
    if need <= size:
        return None
    has = f"{whose} {size}" if given is None else f"model.position_range is {given}"
    return f"length {length} of {c.task} takes at least {need} {policy} positions; {has}"


def model_faults(model: ModelConfig) -> Iterator[Fault]:
    """Sizes of a model trained from scratch that do not fit each other."""
    if model.name_or_path is not None:
        return
    if model.initializer_range > 1:  # transformers takes no more
        yield (
            ("model.initializer_range",),
            f"model.initializer_range: {model.initializer_range} must be at most 1",
        )
    if model.architecture not in CHECKED:
        yield from _other_family_faults(model)
        return
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
    yield from _family_faults(model)
    if kv_heads and heads % kv_heads:
        keys = ("model.heads", "model.kv_heads")
        yield keys, f"model.kv_heads: {kv_heads} does not divide model.heads, {heads}"


def _other_family_faults(model: ModelConfig) -> Iterator[Fault]:
    """Of a family whose sizes transformers checks, when the network is made."""
    if model.positions != "rope":
        yield (
            ("model.positions", "model.architecture"),
            f"model.positions: {model.positions!r} is for {' and '.join(map(repr, CHECKED))}; "
            f"{short(model.architecture)} has positions of its own, leave the key out",
        )


def _family_faults(model: ModelConfig) -> Iterator[Fault]:
    """What only one family of networks has, asked of another."""
    family = model.architecture
    if model.config:
        yield (
            ("model.config", "model.architecture"),
            f"model.config: is for other families than {family!r}, whose sizes are keys of section model",
        )
    if family != "llama" and model.kv_heads is not None:
        yield (
            ("model.kv_heads", "model.architecture"),
            f"model.kv_heads: {model.kv_heads} is for 'llama'; model.architecture is {family!r}",
        )
    keys = ("model.positions", "model.architecture")
    if family == "gpt_neox" and model.positions == "nope":
        yield keys, "model.positions: 'nope' is for 'llama'; model.architecture is 'gpt_neox'"
    if model.positions == "alibi" and family != "bloom":
        yield keys, f"model.positions: 'alibi' is for 'bloom'; model.architecture is {family!r}"
    if family == "bloom" and model.positions != "alibi":
        yield (
            keys,
            f"model.positions: {model.positions!r} is not for model.architecture 'bloom', which has 'alibi'",
        )
    if family == "bloom" and model.intermediate_size != 4 * model.hidden_size:
        yield (
            ("model.intermediate_size", "model.hidden_size", "model.architecture"),
            f"model.intermediate_size: {model.intermediate_size} must be 4 x model.hidden_size, "
            f"{4 * model.hidden_size}, for model.architecture 'bloom'",
        )

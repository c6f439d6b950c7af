"""The config of a run: strict dataclasses, read from YAML with `--section.key value` overrides.

Every fault of a config is found before any work starts, and all are told at once, each naming its
key. `load_config` is the entry; the dataclasses are the reference of all keys.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from data_builders import Component, Mixture, TaskError
from data_builders.mixture import component_faults
from data_builders.registry import unknown
from data_builders.sampling import stream
from hf_lgt import yaml12


class ConfigError(ValueError):
    """A user's mistake in settings; `faults` are all of them, each naming its key."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""names that are safe as a folder"""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Positive = Annotated[StrictInt, Field(ge=1, le=2**31)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**63)]
Fraction = Annotated[StrictFloat, Field(ge=0, le=1)]


def _pair(wanted: str) -> BeforeValidator:
    """Takes a YAML list of two for a tuple; `wanted` says what the two are."""

    def check(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(f"must be {wanted}")
        return tuple(value)

    return BeforeValidator(check)


Bounds = Annotated[tuple[StrictInt, StrictInt], _pair("[smallest, largest], two whole numbers")]
_Beta = Annotated[StrictFloat, Field(ge=0, lt=1)]
Betas = Annotated[tuple[_Beta, _Beta], _pair("two numbers from 0 to 1")]


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class SeedConfig:
    """Seeds of the random draws."""

    init: Seed = Field(default=0, description="draws the initial weights")
    data: Seed = Field(default=0, description="draws the training batches")


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class ModelConfig:
    """Sizes default to the paper's from-scratch model (section 3)."""

    init: Literal["random"] = Field(default="random", description="random: weights drawn from seed.init")
    architecture: Literal["llama"] = Field(default="llama", description="family of the network")
    layers: Positive = Field(default=6, description="transformer blocks")
    hidden_size: Positive = Field(default=384, description="width of the residual stream")
    heads: Positive = Field(default=6, description="attention heads a layer")
    kv_heads: Positive | None = Field(default=None, description="key-value heads; null: as many as heads")
    intermediate_size: Positive = Field(default=1536, description="width of the feed-forward layer")
    positions: Literal["rope", "nope"] = Field(
        default="rope", description="rope: rotary embeddings; nope: no position encoding"
    )
    rope_theta: StrictFloat = Field(default=1e5, gt=0, description="base of the rotary frequencies")
    max_positions: Positive = Field(default=2048, description="longest sequence, in tokens")
    initializer_range: StrictFloat = Field(
        default=0.02, gt=0, description="standard deviation of the initial weights"
    )
    tie_embeddings: StrictBool = Field(default=False, description="share input and output embeddings")


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class ComponentConfig:
    """One task of the mixture, see `data_builders.Component`."""

    task: StrictStr = Field(description="name of a registered task")
    role: Literal["target", "auxiliary"] = Field(description="target (the paper's main task) or auxiliary")
    lengths: Bounds = Field(description="smallest and largest training length, both included")
    weight: StrictFloat = Field(default=1.0, description="share of the examples, relative to the others")
    options: dict[str, Any] = Field(default_factory=dict, description="the task's own options")


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class DataConfig:
    """Where training batches come from."""

    source: Literal["generated"] = Field(
        default="generated", description="generated: each batch is drawn when it is needed"
    )
    tags: StrictBool = Field(default=True, description="begin each prompt with its task's tag")


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class TrainConfig:
    """Defaults are the paper's from-scratch setting as far as it is known (inferred values; see README)."""

    steps: Positive = Field(default=20_000, description="optimizer steps")
    batch_size: Positive = Field(default=1024, description="examples a step, over all processes")
    learning_rate: StrictFloat = Field(default=1e-3, ge=0, description="highest learning rate of AdamW")
    warmup: Fraction = Field(default=0.1, description="share of the steps with rising rate")
    decay: Fraction = Field(default=0.4, description="share of the steps with falling rate (cosine)")
    min_lr_ratio: Fraction = Field(default=0.01, description="last learning rate / highest")
    betas: Betas = Field(default=(0.9, 0.98), description="AdamW's averaging coefficients")
    weight_decay: StrictFloat = Field(
        default=0.01, ge=0, description="AdamW's weight decay, on matrices only"
    )
    max_grad_norm: StrictFloat | None = Field(
        default=1.0, gt=0, description="gradient norm is clipped to this"
    )
    precision: Literal["no", "bf16", "fp16"] = Field(default="no", description="mixed precision")
    compile: StrictBool = Field(default=False, description="torch.compile the model")
    gradient_accumulation_steps: Positive = Field(
        default=1, description="least number of passes that a step's batch is cut into, to save memory"
    )
    length_buckets: Positive = Field(
        default=4, description="passes that a batch is sorted into by length, so that little is padding"
    )
    log_every: Positive = Field(default=10, description="steps between lines of train.jsonl")
    eval_every: Positive | None = Field(
        default=1000, description="steps between evaluations; null: last only"
    )
    save_every: Positive | None = Field(default=1000, description="steps between checkpoints; null: none")
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="Accelerate trackers that also get every log line"
    )


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class EvalConfig:
    """Which lengths are evaluated, on which test sets."""

    lengths: Bounds = Field(default=(1, 40), description="smallest and largest evaluated length")
    every: Positive = Field(default=1, description="evaluate every so many lengths")
    examples: Positive = Field(default=1024, description="test examples a task and length")
    seed: Seed = Field(default=1234, description="draws the test sets")
    batch_tokens: Positive = Field(default=65_536, description="tokens a forward pass, padding included")

    @property
    def grid(self) -> list[int]:
        """The evaluated lengths."""
        return list(range(self.lengths[0], self.lengths[1] + 1, self.every))


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class Config:
    """A run; `load_config` makes and checks it."""

    name: StrictStr = Field(description="name of the run, a folder below output_dir")
    mixture: list[ComponentConfig] = Field(description="the tasks, a list")
    output_dir: StrictStr = Field(default="runs", min_length=1, description="where runs are written")
    seed: SeedConfig = Field(default_factory=SeedConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)

    @property
    def run_dir(self) -> Path:
        """Folder of this run's files: ``<output_dir>/<name>/seed-<init seed>``."""
        return Path(self.output_dir) / self.name / f"seed-{self.seed.init}"

    def build_mixture(self) -> Mixture:
        """The mixture that the data builders draw from."""
        return Mixture(
            [Component(c.task, c.role, c.lengths, c.weight, dict(c.options)) for c in self.mixture]
        )

    def to_dict(self) -> dict[str, Any]:
        """All keys as plain data, as written to ``config.yaml``."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, apply overrides, check everything.

    A file may name another with ``base: other.yaml`` (relative to itself) and then holds only what
    differs; mappings are merged key by key, lists are replaced.

    Args:
        path: YAML file.
        overrides: ``section.key=value``, the value in YAML; ``mixture.0.lengths=[1,4]`` reaches into
            lists.

    Raises:
        ConfigError: with every fault.
    """
    data = _read(Path(path), ())
    faults = [fault for override in overrides if (fault := _override(data, override))]
    return _checked(data, faults)


def config_from_dict(data: dict[str, Any]) -> Config:
    """A checked config from plain data, as `Config.to_dict` gives.

    Raises:
        ConfigError: with every fault.
    """
    return _checked(data, [])


# Stand-ins for a faulty value, so that the other keys can still be checked against each other.
_PLACEHOLDERS = {"name": "x", "mixture": None, "task": "reverse_add", "role": "target", "lengths": [1, 1]}


def _checked(data: dict[str, Any], faults: list[str]) -> Config:
    data = copy.deepcopy(data)
    faulty: set[str] = set()
    while True:
        try:
            config = TypeAdapter(Config).validate_python(data)
            break
        except ValidationError as error:
            faults += [_describe(e) for e in error.errors()]
            places = [_repair(data, e["loc"]) for e in error.errors()]
        if None in places or faulty.issuperset(places):
            raise ConfigError(faults)
        faulty.update(place for place in places if place)
    for fault in _cross_faults(config):
        # what a stand-in caused is not the user's fault
        if not any(str(place) in fault for place in faulty):
            faults.append(fault)
    if faults:
        raise ConfigError(faults)
    return config


def _repair(data: Any, location: Sequence[Any]) -> str | None:
    """Replace a faulty value by its default or a stand-in; gives its key, None if that cannot be."""
    # pydantic names the element of a pair, the key is what holds it
    path = [*location]
    while len(path) > 1 and path[-2] in ("lengths", "betas", "trackers"):
        path.pop()
    at = data
    for part in path[:-1]:
        at = at[part]
    if (path[0] == "mixture" and len(path) < 3) or not isinstance(at, dict):
        return None
    at.pop(path[-1], None)
    if _PLACEHOLDERS.get(str(path[-1])) is not None and len(path) != 2:
        at[path[-1]] = _PLACEHOLDERS[str(path[-1])]
    key = ".".join(map(str, path))
    return key if path[-1] != "task" else ".".join(map(str, path[:-1]))


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError([f"base: {path} names itself, by way of {len(seen)} files"])
    try:
        data = yaml12.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError([f"config file {path}: {reason}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"config file {path} is not YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(data, dict):
        raise ConfigError([f"config file {path} holds no keys: {str(data)[:60]!r}"])
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError([f"base: {base!r} is not the path of a config file"])
    return _merge(_read(path.parent / base, (*seen, path.resolve())), data)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _override(data: dict[str, Any], override: str) -> str | None:
    """Set one key in place; gives the fault, if any."""
    key, equals, text = override.removeprefix("--").partition("=")
    if not equals or not key:
        return f"override {override!r} is not of the form section.key=value"
    try:
        value = yaml12.load(text)
    except yaml.YAMLError:
        return f"{key}: the value {text!r} is not YAML"
    at: Any = data
    *path, last = key.split(".")
    for part in path:
        if isinstance(at, list):
            if not part.isdecimal() or int(part) >= len(at):
                return f"{key}: {part!r} is no index of a list of {len(at)}"
            at = at[int(part)]
        elif isinstance(at, dict):
            at = at.setdefault(part, {})
        else:
            return f"{key}: {part!r} is below a plain value"
    if isinstance(at, list):
        if not last.isdecimal() or int(last) >= len(at):
            return f"{key}: {last!r} is no index of a list of {len(at)}"
        at[int(last)] = value
    elif isinstance(at, dict):
        at[last] = value
    else:
        return f"{key}: {last!r} is below a plain value"
    return None


def _describe(error: Any) -> str:
    """One pydantic error in this project's words."""
    location: tuple[Any, ...] = error["loc"]
    key = ".".join(map(str, location))
    kind = error["type"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key}: {unknown('key', location[-1], _keys_at(location[:-1]))}"
    if kind in ("missing", "missing_argument"):
        return f"{key}: is missing"
    if kind in ("dataclass_type", "dataclass_exact_type"):
        return f"{key}: {_short(error['input'])} must be a mapping of keys"
    message = (
        error["msg"].removeprefix("Input ").removeprefix("Value error, ").replace("should be", "must be")
    )
    return f"{key}: {_short(error['input'])} {message}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    """Keys that a place of the config may hold."""
    cls: Any = Config
    for part in location:
        if isinstance(part, int):
            continue
        cls = {"mixture": ComponentConfig}.get(part) or SECTIONS.get(part, cls)
    return [f.name for f in dataclasses.fields(cls)]


SECTIONS: dict[str, Any] = {
    "seed": SeedConfig,
    "model": ModelConfig,
    "data": DataConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
}


def describe_keys() -> Iterator[tuple[str, str]]:
    """(key and default, meaning) of every key, for ``--help``."""
    for name, cls in {"": Config, "mixture.N": ComponentConfig, **SECTIONS}.items():
        for field in dataclasses.fields(cls):
            info: Any = field.default
            meaning = getattr(info, "description", None)
            if meaning is None:
                continue
            required = info.is_required() if hasattr(info, "is_required") else False
            default = "required" if required else info.get_default(call_default_factory=True)
            yield f"--{name}.{field.name}".replace("--.", "--"), f"{meaning} [{default}]"


def _cross_faults(config: Config) -> list[str]:
    """Faults that concern more than one key."""
    faults = list(_name_faults(config)) + list(_model_faults(config.model))
    train = config.train
    if train.warmup + train.decay > 1:
        faults.append(f"train.warmup, train.decay: {train.warmup} + {train.decay} is more than 1")
    if train.gradient_accumulation_steps > train.batch_size:
        faults.append(
            f"train.gradient_accumulation_steps: {train.gradient_accumulation_steps} is more than "
            f"train.batch_size, {train.batch_size}"
        )
    for tracker in train.trackers:
        if importlib.util.find_spec(tracker) is None:
            faults.append(f"train.trackers: {tracker!r} is not installed; pip install {tracker}")
    low, high = config.eval.lengths
    if not 1 <= low <= high:
        faults.append(f"eval.lengths: {[low, high]} must be [smallest, largest], from 1")
    faults += list(_mixture_faults(config))
    if 1 <= low <= high:
        faults += list(_length_faults(config))
    return faults


def _name_faults(config: Config) -> Iterator[str]:
    if not NAME.fullmatch(config.name):
        yield f"name: {_short(config.name)} must be letters, digits, '.', '_', '-', at most 100, no '/'"
    if "\0" in config.output_dir:
        yield "output_dir: must not hold a NUL character"


def _model_faults(model: ModelConfig) -> Iterator[str]:
    if model.hidden_size % model.heads:
        yield f"model.heads: {model.heads} does not divide model.hidden_size, {model.hidden_size}"
    elif model.positions == "rope" and model.hidden_size // model.heads % 2:
        yield (
            f"model.heads: the head width {model.hidden_size // model.heads} must be even for "
            "model.positions 'rope'"
        )
    if model.kv_heads and model.heads % model.kv_heads:
        yield f"model.kv_heads: {model.kv_heads} does not divide model.heads, {model.heads}"


def _mixture_faults(config: Config) -> Iterator[str]:
    parts = config.mixture
    if not parts:
        yield "mixture: is empty; it needs at least one component"
    elif not any(c.role == "target" for c in parts):
        yield "mixture: no component has role 'target'"
    for i, c in enumerate(parts):
        for where, fault in component_faults(c.task, c.role, c.lengths, c.weight, c.options):
            yield f"mixture.{i}.{where}: {fault}"
        if c.task in [other.task for other in parts[:i]]:
            yield f"mixture.{i}.task: {c.task!r} stands in the mixture twice; give it one component"


def _length_faults(config: Config) -> Iterator[str]:
    """Lengths that do not fit the model's positions or that a task cannot draw."""
    limit = config.model.max_positions
    for i, c in enumerate(config.mixture):
        if component_faults(c.task, c.role, c.lengths, c.weight, c.options):
            continue  # told already, and there is nothing to draw
        component = Component(c.task, c.role, c.lengths, c.weight, c.options)
        least = component.definition.smallest_length(component.options)
        if config.eval.grid[-1] < least:
            yield f"eval.lengths: {component.task} starts at length {least}; nothing to evaluate"
        for key, length in (
            (f"mixture.{i}.lengths", component.lengths[1]),
            ("eval.lengths", max(config.eval.grid[-1], least)),
        ):
            # A bound before any array is made: no task writes fewer tokens than its length.
            tokens = length if length > limit else _sequence_tokens(component, length)
            if isinstance(tokens, str):
                yield f"{key}: {tokens}"
            elif tokens > limit:
                yield (
                    f"{key}: length {length} of {component.task} takes at least {tokens} tokens; "
                    f"model.max_positions is {limit}"
                )


def _sequence_tokens(component: Component, length: int) -> int | str:
    """Tokens of the longest sequence of this length, or why none can be drawn."""
    try:
        sample = component.definition.sample(stream(0, "check"), length, 4, **component.options)
    except TaskError as error:
        return str(error)
    return int(sample.prompt.shape[1] + sample.target.shape[1] + 3)  # BOS, tag, EOS

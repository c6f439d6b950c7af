"""The config of a run: strict dataclasses, read from YAML with `--section.key value` overrides.

Every fault of a config is found before any work starts, and all are told at once, each naming its
key. `load_config` is the entry; the dataclasses are the reference of all keys.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

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
from data_builders.registry import get_task, unknown
from data_builders.sampling import stream
from hf_lgt import yaml12


class ConfigError(ValueError):
    """A user's mistake in settings; `faults` are all of them, each naming its key, none twice."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(dict.fromkeys(faults))
        super().__init__("\n".join(self.faults))


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""names that are safe as a folder"""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

LARGEST = 2**31
"""sizes and counts are at most this"""
LONGEST_PROMPT = 2**15
"""symbols; `data_builders.sampling.prompt_hashes` takes no longer prompt"""

Positive = Annotated[StrictInt, Field(ge=1, le=LARGEST)]
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
        return {str(key): _plain(item) for key, item in value.items()}
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


# Stand-ins for faulty values, so that the other keys can still be checked against each other.
_COMPONENT: dict[str, Any] = {"task": "reverse_add", "role": "target", "lengths": [1, 1]}


def _checked(data: dict[str, Any], faults: list[str]) -> Config:
    data = _plain(data)
    faulty: set[str] = set()
    for repaired in (False, True):
        try:
            config = TypeAdapter(Config).validate_python(data)
            break
        except ValidationError as error:
            errors = error.errors(include_url=False)
        faults += map(_describe, errors)
        if repaired:
            raise ConfigError(faults)
        faulty.update([_repair(data, e["loc"]) for e in errors])
    for keys, fault in _cross_faults(config):
        # what a stand-in caused is not the user's fault
        if not any(f"{key}.".startswith(f"{place}.") for key in keys for place in faulty):
            faults.append(fault)
    if faults:
        raise ConfigError(faults)
    return config


def _repair(data: Any, location: Sequence[Any]) -> str:
    """Replace a faulty value by its default or a stand-in; gives its key."""
    # pydantic names the element of a pair, the key is what holds it
    path = [*location]
    while len(path) > 1 and path[-2] in ("lengths", "betas", "trackers"):
        path.pop()
    at = data
    for part in path[:-1]:
        at = at[part]
    if isinstance(at, list):
        at[path[-1]] = _COMPONENT
    else:
        at.pop(path[-1], None)
        stand_ins = {1: {"name": "x", "mixture": [_COMPONENT]}, 3: _COMPONENT}
        if path[-1] in stand_ins.get(len(path), {}):
            at[path[-1]] = stand_ins[len(path)][path[-1]]
    return ".".join(map(str, path))


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    file = f"base: config file {path}" if seen else f"config file {path}"
    try:
        data = yaml12.load(path.read_text(encoding="utf-8"))
        place = path.resolve()
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from None
    except ValueError as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "is no path of a file"
        raise ConfigError([f"{file} {reason}"]) from None
    except yaml12.YAMLError as error:
        raise ConfigError([f"{file} is not YAML: {error}"]) from None
    if place in seen:
        raise ConfigError([f"base: {path} is based on itself, by way of {len(seen)} file(s)"])
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds {_short(data)}"
        raise ConfigError([f"{file} {what}; it must hold keys, as in 'name: my-run'"])
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError([f"base: {_short(base)} must be the path of a config file"])
    return _merge(_read(path.parent / base, (*seen, place)), data)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _override(data: dict[str, Any], override: str) -> str | None:
    """Set one key in place; gives the fault, if any."""
    key, equals, text = override.removeprefix("--").partition("=")
    if not equals or not key or not key.isprintable():
        return f"override {override!r} is not of the form section.key=value"
    if key == "base":
        return f"base: {_short(text)} can only stand in a config file"
    try:
        value = yaml12.load(text)
    except yaml12.YAMLError as error:
        return f"{key}: the value {_short(text)} is not YAML: {error}"
    if value is None and text.strip() not in yaml12.NULLS:
        return f"{key}: the value {_short(text)} is empty; for no value write null"
    at: Any = data
    parts = key.split(".")
    for i, part in enumerate(parts):
        place: str | int = part
        if isinstance(at, list):
            # no list has a billion items, and a longer number need not be read
            place = int(part) if re.fullmatch("[0-9]{1,9}", part) else len(at)
            if place >= len(at):
                return f"{key}: {part!r} is no index of {'.'.join(parts[:i])}, a list of {len(at)}, from 0"
        elif not isinstance(at, dict):
            return f"{key}: {'.'.join(parts[:i])} is {_short(at)}, which has no keys"
        if i == len(parts) - 1:
            at[place] = value
        else:
            at = at.setdefault(place, {}) if isinstance(at, dict) else at[place]
    return None


# What must be, for each kind of pydantic's errors that a config can have.
_MUST = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (a number or a word such as true is text in quotes)",
    "string_unicode": "valid text",
    "string_too_short": "at least one character long",
    "list_type": "a list, as in [a, b]",
    "dict_type": "a mapping of keys, as in {{key: value}}",
    "dataclass_type": "a mapping of keys, as in {{key: value}}",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def _describe(error: Any) -> str:
    """One pydantic error in this project's words."""
    location: tuple[Any, ...] = error["loc"]
    key, kind, given = ".".join(map(str, location)), error["type"], _short(error["input"])
    if kind == "unexpected_keyword_argument":
        return f"{key}: {unknown('key', location[-1], _keys_at(location[:-1]))}"
    if kind == "missing":
        return f"{key}: is missing"
    if kind == "value_error":
        return f"{key}: {given} {error['ctx']['error']}"
    wanted = _MUST[kind].format(**error.get("ctx", {})).removesuffix(".0")
    return f"{key}: {given} must be {wanted}"


def _short(value: Any) -> str:
    """A value as it stands in YAML, cut where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(location: Sequence[Any]) -> list[str]:
    """Keys that a place of the config may hold."""
    cls: Any = Config
    for part in location:
        cls = {"mixture": ComponentConfig, **SECTIONS}.get(part, cls)
    return [*(() if location else ["base"]), *(f.name for f in dataclasses.fields(cls))]


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
            default = "required" if required else _short(_plain(info.get_default(call_default_factory=True)))
            yield f"--{name}.{field.name}".replace("--.", "--"), f"{meaning} [{default}]"


_Fault = tuple[tuple[str, ...], str]
"""the keys that a fault comes from, and its words"""


def _cross_faults(config: Config) -> Iterator[_Fault]:
    """Faults that take more than a value's type to see, or concern more than one key."""
    yield from _name_faults(config)
    yield from _model_faults(config.model)
    yield from _train_faults(config.train)
    yield from _mixture_faults(config)
    yield from _length_faults(config)


def _name_faults(config: Config) -> Iterator[_Fault]:
    if not NAME.fullmatch(config.name):
        yield (
            ("name",),
            f"name: {_short(config.name)} must be letters, digits, '.', '_', '-', at most 100, no '/', "
            "and begin with a letter or digit",
        )
    folder = config.output_dir
    if "\0" in folder or len(folder) > 1000 or any(len(part.encode()) > 255 for part in Path(folder).parts):
        yield ("output_dir",), f"output_dir: {_short(folder)} must be the path of a folder"


def _model_faults(model: ModelConfig) -> Iterator[_Fault]:
    width, heads, kv_heads = model.hidden_size, model.heads, model.kv_heads
    keys = ("model.heads", "model.hidden_size")
    if width % heads:
        yield keys, f"model.heads: {heads} does not divide model.hidden_size, {width}"
    elif model.positions == "rope" and width // heads % 2:
        yield (
            (*keys, "model.positions"),
            f"model.heads: {heads} of model.hidden_size {width} makes heads {width // heads} wide; the "
            "width must be even for model.positions 'rope'",
        )
    if kv_heads and heads % kv_heads:
        keys = ("model.heads", "model.kv_heads")
        yield keys, f"model.kv_heads: {kv_heads} does not divide model.heads, {heads}"


def _train_faults(train: TrainConfig) -> Iterator[_Fault]:
    if train.warmup + train.decay > 1:
        yield (
            ("train.warmup", "train.decay"),
            f"train.warmup, train.decay: {train.warmup} + {train.decay} is more than 1",
        )
    if train.gradient_accumulation_steps > train.batch_size:
        yield (
            ("train.gradient_accumulation_steps", "train.batch_size"),
            f"train.gradient_accumulation_steps: {train.gradient_accumulation_steps} is more than "
            f"train.batch_size, {train.batch_size}",
        )
    for tracker in train.trackers:
        if importlib.util.find_spec(tracker) is None:
            yield (
                ("train.trackers",),
                f"train.trackers: {tracker!r} is not installed; pip install {tracker}",
            )


def _mixture_faults(config: Config) -> Iterator[_Fault]:
    parts = config.mixture
    if not parts:
        yield ("mixture",), "mixture: is empty; it needs at least one component"
    elif not any(c.role == "target" for c in parts):
        yield ("mixture",), "mixture: no component has role 'target'"
    for i, c in enumerate(parts):
        keys = [f"mixture.{i}.{key}" for key in ("task", "options")]
        for where, fault in _component_faults(c):
            yield (*keys, f"mixture.{i}.{where}"), f"mixture.{i}.{where}: {fault}"
        for j, other in enumerate(parts[:i]):
            if other.task == c.task:
                key = f"mixture.{i}.task"
                fault = f"{c.task!r} stands in the mixture twice, as mixture.{j} too; give it one component"
                yield (key, f"mixture.{j}.task"), f"{key}: {fault}"
                break


def _component_faults(c: ComponentConfig) -> list[tuple[str, str]]:
    """(key, fault); beside what the data builders refuse, numbers that no array can hold."""
    faults = component_faults(c.task, c.role, c.lengths, c.weight, c.options)
    if c.weight > 0 and not 1e-9 <= c.weight <= 1e9:
        faults.append(("weight", f"{c.weight!r} must be from 1e-9 to 1e9"))
    for name, value in c.options.items():
        if isinstance(value, int) and value > LARGEST:
            faults.append(("options", f"option {name!r} is {_short(value)}; it must be at most {LARGEST}"))
    return faults


def _length_faults(config: Config) -> Iterator[_Fault]:
    """Lengths that do not fit the model's positions or that a task cannot draw."""
    low, high = config.eval.lengths
    if not 1 <= low <= high:
        yield ("eval.lengths",), f"eval.lengths: {[low, high]} must be [smallest, largest], from 1"
    # not `grid`: the list may be too long to make
    last = range(low, high + 1, config.eval.every)[-1] if 1 <= low <= high else None
    limit = config.model.max_positions
    for i, c in enumerate(config.mixture):
        if {where for where, _ in _component_faults(c)} & {"task", "options"}:
            continue  # told already, and there is nothing to draw
        keys = (f"mixture.{i}.task", f"mixture.{i}.options", "model.max_positions")
        least = get_task(c.task).smallest_length(c.options)
        if c.lengths[1] >= max(c.lengths[0], least) and (fault := _length_fault(c, c.lengths[1], limit)):
            yield (*keys, f"mixture.{i}.lengths"), f"mixture.{i}.lengths: {fault}"
        if last is None:
            continue
        if last < least:
            fault = f"{[low, high]} has no length of {c.task}, which starts at {least}"
        else:
            fault = _length_fault(c, last, limit)
        if fault:
            yield (*keys, "eval.lengths", "eval.every"), f"eval.lengths: {fault}"


def _length_fault(c: ComponentConfig, length: int, limit: int) -> str | None:
    """Why a component's examples of this length cannot be used, if they cannot."""
    tokens, symbols = length, length
    # A bound before any array is made: no task writes fewer tokens than its length.
    if length <= min(limit, LONGEST_PROMPT):
        try:
            sample = get_task(c.task).sample(stream(0, "check"), length, 4, **c.options)
        except TaskError as error:
            return str(error)
        symbols = sample.prompt.shape[1]
        tokens = symbols + sample.target.shape[1] + 3  # BOS, tag, EOS
    if tokens > limit:
        return f"length {length} of {c.task} takes at least {tokens} tokens; model.max_positions is {limit}"
    if symbols > LONGEST_PROMPT:
        return f"length {length} of {c.task} makes a prompt of more than {LONGEST_PROMPT} symbols"
    return None

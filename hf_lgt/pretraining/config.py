"""The config of a pretraining: its keys, their types, defaults and meanings, and how they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictFloat, StrictInt, StrictStr
from pydantic.dataclasses import dataclass

from hf_lgt.config.load import ConfigSpec, load_spec
from hf_lgt.config.schema import (
    DEFAULT_POSITIONS,
    LARGEST,
    ModelConfig,
    PathText,
    Positive,
    SeedConfig,
    SelfImprovementConfig,
    TrainConfig,
    UntilConfig,
    plain_data,
    short,
)
from hf_lgt.config.validate import training_faults
from hf_lgt.config.validate_model import Fault

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
SMALLEST_VOCABULARY = 257
"""a token for each byte, and one that ends a document"""
LARGEST_VOCABULARY = 2**16


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class TextConfig:
    """What the model reads."""

    source: Literal["python", "files", "dataset"] = Field(
        default="python",
        description="python: the standard library's sources and the installed packages' documentation; "
        "files: text files; dataset: a column of one",
    )
    files: list[PathText] = Field(
        default_factory=list, description="files: paths of files or folders, or patterns as 'docs/**/*.md'"
    )
    path: PathText | None = Field(default=None, description="dataset: a Hub id, or a local folder or file")
    name: StrictStr | None = Field(default=None, description="dataset: its configuration; null: its default")
    revision: StrictStr | None = Field(
        default=None, description="dataset: branch, tag or commit on the Hub; null: the newest"
    )
    split: StrictStr = Field(default="train", description="dataset: split; also cut, as train[:90%]")
    column: StrictStr = Field(default="text", description="dataset: column with the documents")
    longest_document: Positive = Field(
        default=100_000, description="characters of a document; what is beyond is not read"
    )
    characters: Positive | None = Field(
        default=None, description="characters that are read in all, of documents in random order; null: all"
    )
    validation_share: Annotated[StrictFloat, Field(gt=0, lt=1)] = Field(
        default=0.02, description="share of the documents that are only used to measure the loss"
    )


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class TokenizerConfig:
    """A byte-level BPE of its own, made from the training documents."""

    vocab_size: Annotated[StrictInt, Field(ge=SMALLEST_VOCABULARY, le=LARGEST_VOCABULARY)] = Field(
        default=512, description="tokens: 256 bytes, <|endoftext|> and merges"
    )
    digits: Literal["single", "merged"] = Field(
        default="single",
        description="single: each digit is a token of its own, as in SmolLM; merged: frequent numbers are "
        "tokens, as in Pythia",
    )


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class PretrainConfig:
    """A pretraining; `load_pretrain_config` makes and checks it."""

    name: StrictStr = Field(description="name of the model, a folder below output_dir")
    output_dir: PathText = Field(default="pretrained", min_length=1, description="where models are written")
    seed: SeedConfig = Field(default_factory=SeedConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    text: TextConfig = Field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    sequence_length: Annotated[StrictInt, Field(ge=2, le=LARGEST)] = Field(
        default=256, description="tokens of a sequence; train.batch_size counts such sequences"
    )
    validation_sequences: Positive = Field(
        default=64, description="most sequences that the validation loss is measured on, the same each time"
    )
    revisions: list[Annotated[StrictInt, Field(ge=0, le=LARGEST)]] = Field(
        default_factory=list,
        description="steps whose model is kept as revision step-N, 0 the untrained one; the last is always "
        "kept, and is main too",
    )

    @property
    def run_dir(self) -> Path:
        """Folder of the model and its records: ``<output_dir>/<name>``."""
        return Path(self.output_dir) / self.name

    @property
    def kept_steps(self) -> list[int]:
        """Steps that become revisions, the last included, ascending."""
        return sorted({*self.revisions, self.train.steps})

    def to_dict(self) -> dict[str, Any]:
        """All keys as plain data, as written to ``config.yaml``."""
        data: dict[str, Any] = plain_data(dataclasses.asdict(self))
        return data


_NOT_HERE = (
    "model.init", "model.name_or_path", "model.revision", "model.use_safetensors",
    "model.trust_remote_code", "model.tokenizer", "model.position_ids", "model.position_range",
    "model.role_heads", "train.length_buckets", "train.layout",
    "train.until.exact_match", "train.until.evaluations", "train.until.auxiliaries", "train.until.cooldown",
    *(f"train.self_improvement.{key}" for key in vars(SelfImprovementConfig())),
)  # fmt: skip
"""keys of a section that only a run on tasks uses"""

_TEXT_KEYS = {"files": ("files",), "dataset": ("path", "name", "revision", "split", "column")}
"""source -> the keys that are for it alone"""


def _cross_faults(config: PretrainConfig) -> Iterator[Fault]:
    yield from training_faults(config)
    for place in _NOT_HERE:
        value, default = (attrgetter(place)(own) for own in (config, PretrainConfig(name="x")))
        if value != default:
            yield (
                (place,),
                f"{place}: {short(value)} is for fine-tuning; a model is pretrained from random weights",
            )
    if config.model.architecture == "looped_llama":
        yield (
            ("model.architecture",),
            "model.architecture: 'looped_llama' works as long as a prompt asks; a text has none",
        )
    yield from _text_faults(config.text)
    yield from _step_faults(config)
    most = config.model.position_limit or DEFAULT_POSITIONS
    if config.sequence_length > most:
        yield (
            ("sequence_length", "model.max_positions"),
            f"sequence_length: {config.sequence_length} is more than model.max_positions, {most}",
        )


def _text_faults(text: TextConfig) -> Iterator[Fault]:
    for source, keys in _TEXT_KEYS.items():
        for key in keys if text.source != source else ():
            if (value := getattr(text, key)) != getattr(TextConfig(), key):
                yield (
                    (f"text.{key}", "text.source"),
                    f"text.{key}: {short(value)} is for text.source {source!r}, not {text.source!r}",
                )
    if text.source == "files" and not text.files:
        yield (
            ("text.files", "text.source"),
            "text.files: is empty; text.source 'files' needs paths of files or folders",
        )
    if text.source == "dataset" and not text.path:
        yield (
            ("text.path", "text.source"),
            "text.path: is missing; text.source 'dataset' needs a Hub id, or a local folder or file",
        )


def _step_faults(config: PretrainConfig) -> Iterator[Fault]:
    """Steps that are kept without being evaluated."""
    last, every = config.train.steps, config.train.eval_every
    for step in dict.fromkeys(config.revisions):
        keys = ("revisions", "train.steps", "train.eval_every")
        if step > last:
            yield keys, f"revisions: {step} is after the last step, train.steps {last}"
        elif step not in (0, last) and (every is None or step % every):
            yield keys, f"revisions: {step} is no multiple of train.eval_every, {short(every)}"


PRETRAINING: ConfigSpec[PretrainConfig] = ConfigSpec(
    root=PretrainConfig,
    sections={
        "seed": SeedConfig,
        "model": ModelConfig,
        "text": TextConfig,
        "tokenizer": TokenizerConfig,
        "train": TrainConfig,
        "train.until": UntilConfig,
        "train.self_improvement": SelfImprovementConfig,
    },
    cross_faults=_cross_faults,
    required={"name": "x"},
    hidden=_NOT_HERE,
)


def load_pretrain_config(path: str | Path, overrides: Sequence[str] = ()) -> PretrainConfig:
    """Read the config of a pretraining, apply overrides, check everything.

    Args:
        path: YAML file; it may be based on another one, see `hf_lgt.config.load.load_spec`.
        overrides: ``section.key=value``, the value in YAML.

    Raises:
        ConfigError: with every fault.
    """
    return load_spec(PRETRAINING, path, overrides)

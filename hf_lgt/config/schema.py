"""The keys of a config, their types, defaults and meanings: strict dataclasses.

A key is added here and nowhere else: YAML, overrides, checks of its type and ``--help`` follow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic.dataclasses import dataclass

from data_builders import Component, Mixture
from hf_lgt.utils.atomic_io import expanded
from hf_lgt.utils.memory import MOST_LAYERS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""names that are safe as a folder"""

GGUF = ".gguf"
PACKAGE = "package:"
"""begins the name of an installed package that holds a checkpoint as a GGUF file"""
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""names that a model or dataset on the Hub can have"""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

LARGEST = 2**31
"""sizes and counts are at most this"""

DEFAULT_POSITIONS = 2048
"""longest sequence of a model trained from scratch, unless given"""

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


PathText = Annotated[StrictStr, AfterValidator(expanded)]
"""the path of a file or folder, or perhaps an id of the Hub"""
Bounds = Annotated[tuple[StrictInt, StrictInt], _pair("[smallest, largest], two integers")]
_Beta = Annotated[StrictFloat, Field(ge=0, lt=1)]
Betas = Annotated[tuple[_Beta, _Beta], _pair("two numbers from 0 to 1")]


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class SeedConfig:
    """Seeds of the random draws."""

    init: Seed = Field(default=0, description="draws the initial weights")
    data: Seed = Field(default=0, description="draws the training batches")


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class ModelConfig:
    """A model trained from scratch, or a checkpoint's: `name_or_path` decides.

    Sizes are for a model trained from scratch; they default to the paper's from-scratch model (section 3).
    """

    init: Literal["random", "pretrained"] = Field(
        default="random",
        description="random: weights drawn from seed.init; pretrained: those of name_or_path",
    )
    name_or_path: PathText | None = Field(
        default=None,
        description="checkpoint whose architecture and tokenizer are taken, and with init pretrained its "
        "weights: a Hub id, a local folder or .gguf file, or package:NAME for the .gguf file in an installed "
        "package",
    )
    gguf_file: StrictStr | None = Field(
        default=None, description="checkpoint: name of its .gguf file, on the Hub or in the folder"
    )
    revision: StrictStr | None = Field(
        default=None, description="checkpoint: branch, tag or commit; null: the main one"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="type that the weights are kept and trained in; train.precision is that of the "
        "arithmetic",
    )
    use_safetensors: StrictBool = Field(
        default=True,
        description="checkpoint: false also takes pytorch_model.bin, read without running any code in it",
    )
    trust_remote_code: StrictBool = Field(
        default=False, description="checkpoint: run Python code that comes with it"
    )
    architecture: StrictStr = Field(
        default="llama",
        description="family of the network: llama, gpt_neox, bloom (positions alibi), or any model type of "
        "transformers, as qwen3, gemma3_text, phi3, mamba2, recurrent_gemma, falcon_h1",
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="further keys of another family's own config, as {state_size: 16} of mamba2",
    )
    layers: Annotated[StrictInt, Field(ge=1, le=MOST_LAYERS)] = Field(
        default=6, description="transformer blocks"
    )
    hidden_size: Positive = Field(default=384, description="width of the residual stream")
    heads: Positive = Field(default=6, description="attention heads a layer")
    kv_heads: Positive | None = Field(default=None, description="key-value heads; null: as many as heads")
    intermediate_size: Positive = Field(default=1536, description="width of the feed-forward layer")
    positions: Literal["rope", "nope", "alibi"] = Field(
        default="rope",
        description="rope: rotary embeddings; nope: no position encoding; alibi: linear biases of attention "
        "(architecture bloom)",
    )
    rope_theta: StrictFloat = Field(default=1e5, gt=0, description="base of the rotary frequencies")
    max_positions: Positive | None = Field(
        default=None, description="longest sequence, in tokens; null: 2048, or what the checkpoint takes"
    )
    position_ids: Literal["sequential", "randomized", "coupled", "abacus"] = Field(
        default="sequential",
        description="position IDs: sequential: 0, 1, 2, ...; randomized: ascending ones, drawn "
        "for each sequence; coupled: digits of one significance share theirs (arithmetic); abacus: so, and "
        "all other tokens have 0",
    )
    position_range: Positive | None = Field(
        default=None,
        description="other than sequential: numbers are below this; null: max_positions, or what the "
        "checkpoint takes",
    )
    role_heads: Literal["all", "disjoint", "shared"] = Field(
        default="all",
        description="heads of each layer that an example may use: all; disjoint: targets the first half, "
        "auxiliaries the second; shared: both the first half",
    )
    initializer_range: StrictFloat = Field(
        default=0.02, gt=0, description="standard deviation of the initial weights"
    )
    tie_embeddings: StrictBool = Field(default=False, description="share input and output embeddings")
    tokenizer: Literal["symbols", "words", "text"] = Field(
        default="symbols",
        description="symbols: one token a symbol of the tasks; words: one token a word or punctuation mark "
        "of a dataset's training texts; text: a checkpoint's own tokens, for a dataset",
    )

    @property
    def position_limit(self) -> int | None:
        """Longest sequence in tokens, None where only the checkpoint tells."""
        return self.max_positions or (DEFAULT_POSITIONS if self.name_or_path is None else None)


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class PeftConfig:
    """Adapters instead of full fine-tuning; rows of added tokens are trained beside them."""

    method: Literal["none", "lora"] = Field(
        default="none", description="none: all weights are trained; lora: low-rank adapters (pretrained only)"
    )
    rank: Positive = Field(default=16, description="lora: rank of the adapters")
    alpha: StrictFloat = Field(
        default=32.0, gt=0, description="lora: their product is scaled by alpha / rank"
    )
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] = Field(
        default=0.0, description="lora: dropout of the adapters' inputs"
    )
    target_modules: list[StrictStr] | None = Field(
        default=None, description="lora: names of the adapted layers; null: all linear ones but the output"
    )


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class ComponentConfig:
    """One task of the mixture, see `data_builders.Component`."""

    task: StrictStr = Field(description="name of a registered task")
    role: Literal["target", "auxiliary"] = Field(description="target (the paper's main task) or auxiliary")
    lengths: Bounds = Field(description="smallest and largest training length, both included")
    weight: StrictFloat = Field(default=1.0, description="share of the examples, relative to the others")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="the task's own options; with a dataset they only say how its rows were drawn",
    )


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class PrimingConfig:
    """A few long examples of the targets, the same ones again and again."""

    examples: Annotated[StrictInt, Field(ge=0, le=LARGEST)] = Field(
        default=0, description="how many long examples of each target; 0: none"
    )
    lengths: Bounds = Field(default=(1, 1), description="their smallest and largest length")
    share: Fraction = Field(default=0.1, description="share of a target's examples that are one of them")


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class DataConfig:
    """Where examples come from.

    With a dataset the mixture names values of its task column, and the lengths of theirs to train on.
    """

    source: Literal["generated", "dataset"] = Field(
        default="generated",
        description="generated: each batch is drawn when it is needed; dataset: rows of one",
    )
    path: PathText | None = Field(default=None, description="dataset: a Hub id, or a local folder or file")
    name: StrictStr | None = Field(default=None, description="dataset: its configuration; null: its default")
    revision: StrictStr | None = Field(
        default=None, description="dataset: branch, tag or commit on the Hub; null: the newest"
    )
    train_split: StrictStr = Field(default="train", description="dataset: split that is trained on")
    test_split: StrictStr = Field(default="test", description="dataset: split that is evaluated on")
    columns: dict[str, StrictStr] = Field(
        default_factory=dict,
        description="dataset: its names of the columns task, length, prompt, target, loss_mask",
    )
    length: Literal["column", "characters", "words", "tokens"] = Field(
        default="column", description="dataset: read from a column, or counted in the prompt"
    )
    tags: StrictBool = Field(default=True, description="begin each prompt with its task's tag")
    curriculum: Fraction = Field(
        default=0.0,
        description="generated: share of the steps, the first ones, over which the longest drawn length of "
        "each task grows from its smallest to its largest; 0: all lengths from the start",
    )
    priming: PrimingConfig = Field(default_factory=PrimingConfig)
    filler: Annotated[StrictInt, Field(ge=0, le=2**15)] = Field(
        default=0,
        description="largest number of beginning tokens before a training example, so that it is read at "
        "other positions; the number is drawn for each",
    )


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class UntilConfig:
    """A criterion at which a training ends, before ``train.steps`` where it is met earlier."""

    exact_match: Annotated[StrictFloat, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="mean exact match of the target on its trained lengths that ends the training; null: "
        "train.steps alone does",
    )
    evaluations: Positive = Field(
        default=2, description="evaluations in a row, after the warm-up, that must have it"
    )
    auxiliaries: StrictBool = Field(
        default=False, description="each auxiliary must have it too, on its own trained lengths"
    )
    cooldown: Positive = Field(
        default=100, description="steps with falling rate that follow, in the place of train.decay"
    )


LONGER = 2
"""symbols that an answer of self-improvement may have more than the longest right one of its length"""


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class SelfImprovementConfig:
    """Rounds in which a model answers longer prompts of its targets, and trains on some of its answers."""

    rounds: Annotated[StrictInt, Field(ge=0, le=LARGEST)] = Field(
        default=0, description="how many, evenly spread over the steps that follow the first part; 0: none"
    )
    begin: Annotated[StrictFloat, Field(gt=0, lt=1)] = Field(
        default=0.5, description="share of the steps before the first round"
    )
    lengths: Positive = Field(default=1, description="how much longer each round's prompts are")
    examples: Positive = Field(default=512, description="prompts of each round and target")
    keep: Literal["agreement", "length", "all"] = Field(
        default="agreement",
        description="answers that are trained on, of those that end: agreement: those that the model gave "
        "half a round before too; length: those at most one symbol longer or shorter than the median; all",
    )
    share: Fraction = Field(
        default=0.5, description="share of a target's examples that are answers of its own"
    )


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class TrainConfig:
    """Defaults are the paper's from-scratch setting.

    The paper gives AdamW with warm-up, constant and cosine decay; steps, rate, their shares, betas,
    weight decay and batch size are inferred.
    """

    steps: Positive = Field(default=20_000, description="optimizer steps")
    batch_size: Positive = Field(default=1024, description="examples a step, over all processes")
    learning_rate: StrictFloat = Field(default=1e-3, ge=0, description="highest learning rate of AdamW")
    warmup: Fraction = Field(default=0.1, description="share of the steps with rising rate")
    decay: Fraction = Field(default=0.4, description="share of the steps with falling rate (cosine)")
    min_lr_ratio: Fraction = Field(default=0.01, description="last learning rate / highest")
    average: Fraction = Field(
        default=0.0,
        description="share of the steps, the last ones, over which the weights are averaged: what is "
        "evaluated from then on, and saved as the model; 0: the last step's weights",
    )
    betas: Betas = Field(default=(0.9, 0.98), description="AdamW's averaging coefficients")
    weight_decay: StrictFloat = Field(
        default=0.01, ge=0, description="AdamW's weight decay, on matrices only"
    )
    max_grad_norm: StrictFloat | None = Field(
        default=1.0, gt=0, description="gradient norm is clipped to this"
    )
    precision: Literal["no", "bf16", "fp16"] = Field(default="no", description="mixed precision")
    compile: StrictBool = Field(default=False, description="torch.compile the model")
    gradient_checkpointing: StrictBool = Field(
        default=False, description="compute activations again in the backward pass, to save memory"
    )
    gradient_accumulation_steps: Positive = Field(
        default=1, description="least number of passes that a step's batch is cut into, to save memory"
    )
    layout: Literal["padded", "packed", "auto"] = Field(
        default="auto",
        description="padded: a batch sorted into length_buckets; packed: its examples in one row without "
        "padding (block-diagonal attention); auto: packed on a CPU where the model can, which is faster",
    )
    length_buckets: Positive = Field(
        default=4,
        description="padded: passes that a batch is sorted into by length, so that little is padding",
    )
    until: UntilConfig = Field(default_factory=UntilConfig)
    self_improvement: SelfImprovementConfig = Field(default_factory=SelfImprovementConfig)
    log_every: Positive = Field(default=10, description="steps between lines of train.jsonl")
    eval_every: Positive | None = Field(
        default=1000, description="steps between evaluations; null: last only"
    )
    save_every: Positive | None = Field(default=1000, description="steps between checkpoints; null: none")
    keep_last: Positive | None = Field(
        default=None, description="whole checkpoints to keep, the newest; null: all"
    )
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
    during: Literal["all", "trained", "target"] = Field(
        default="all",
        description="evaluated between the first and the last step: all; trained: of each task the lengths "
        "that it is trained on, which is faster; target: of those the targets' alone",
    )
    zero_shot: StrictBool = Field(
        default=True, description="evaluate a pretrained model before its first step, too"
    )
    batch_tokens: Positive = Field(default=65_536, description="most tokens a forward pass, padding included")
    mistakes: Annotated[StrictInt, Field(ge=0, le=LARGEST)] = Field(
        default=32,
        description="wrong answers a task and length that the last evaluation generates and sorts by kind, "
        "where the task can (mazes)",
    )

    @property
    def grid(self) -> list[int]:
        """The evaluated lengths."""
        return list(self.grid_range)

    @property
    def grid_range(self) -> range:
        """The evaluated lengths, which may be too many for a list."""
        return range(self.lengths[0], self.lengths[1] + 1, self.every)


@dataclass(config=_STRICT, frozen=True, kw_only=True)
class Config:
    """A run; `load_config` makes and checks it."""

    name: StrictStr = Field(description="name of the run, a folder below output_dir")
    mixture: list[ComponentConfig] = Field(description="the tasks, a list")
    output_dir: PathText = Field(default="runs", min_length=1, description="where runs are written")
    seed: SeedConfig = Field(default_factory=SeedConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    peft: PeftConfig = Field(default_factory=PeftConfig)
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
        data: dict[str, Any] = plain_data(dataclasses.asdict(self))
        return data


SECTIONS: dict[str, Any] = {
    "seed": SeedConfig,
    "model": ModelConfig,
    "peft": PeftConfig,
    "data": DataConfig,
    "data.priming": PrimingConfig,
    "train": TrainConfig,
    "train.until": UntilConfig,
    "train.self_improvement": SelfImprovementConfig,
    "eval": EvalConfig,
}


def describe_keys(classes: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """(key and default, meaning) of every key, for ``--help``.

    Args:
        classes: place of the keys -> their dataclass; None: those of `Config`.
    """
    for name, cls in (classes or {"": Config, "mixture.N": ComponentConfig, **SECTIONS}).items():
        for field in dataclasses.fields(cls):
            info: Any = field.default
            meaning = getattr(info, "description", None)
            if meaning is None:
                continue
            required = info.is_required() if hasattr(info, "is_required") else False
            default = (
                "required" if required else short(plain_data(info.get_default(call_default_factory=True)))
            )
            yield f"--{name}.{field.name}".replace("--.", "--"), f"{meaning} [{default}]"


def plain_data(value: Any) -> Any:
    """The same data in mappings with text keys, lists and scalars alone."""
    if isinstance(value, dict):
        return {str(key): plain_data(item) for key, item in value.items()}
    return [plain_data(item) for item in value] if isinstance(value, (list, tuple)) else value


def short(value: Any) -> str:
    """A value as it stands in YAML, cut where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


HALVES: Mapping[str, Mapping[str, int] | None] = {
    "all": None,
    "disjoint": {"target": 0, "auxiliary": 1},
    "shared": {"target": 0, "auxiliary": 0},
}
"""``model.role_heads`` -> role -> which half of each layer's heads its examples may use; None: every head"""

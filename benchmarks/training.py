"""Training steps side by side with `transformers.Trainer` and TRL's `SFTTrainer`.

All train the same initial weights on the same examples with AdamW, clipping and the same schedule, in
float32. Ours packs (``train.layout``) and draws its batches while it is timed; the peers get theirs
ready-made and in memory. Each peer pads a batch to its longest example; SFTTrainer also packs, several
examples to a row.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.sides import OURS, Comparison, alternate
from hf_lgt import load_config
from hf_lgt.config.schema import Config
from hf_lgt.data.batch_sources import GeneratedSource
from hf_lgt.data.batching import IGNORE, Batch
from hf_lgt.data.codec import Codec
from hf_lgt.models.build import build_model
from hf_lgt.training.step import TrainingRun
from hf_lgt.training.trainer import fit

RECIPES = Path(__file__).parent.parent / "recipes"
PACKED = 512  # tokens a packed row


class Clock(TrainerCallback):
    """Times whole steps, data included: from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *arguments: object, **settings: object) -> None:
        self.ends.append(time.perf_counter())


class TimedSource(GeneratedSource):
    """Notes when each batch is asked for: once a step."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **settings)
        self.starts: list[float] = []

    def batch(self, step: int) -> Batch:
        self.starts.append(time.perf_counter())
        return super().batch(step)


class Setting:
    """A config's model and examples, and how many steps are timed."""

    def __init__(self, config: str, overrides: list[str], steps: int, warm: int) -> None:
        self.codec, self.steps, self.warm = Codec.build(), steps, warm
        self._folder = tempfile.TemporaryDirectory()
        common = [f"train.steps={steps}", f"output_dir={self._folder.name}", "train.save_every=null"]
        common += ["train.precision=no", "train.layout=packed"]
        self.config: Config = load_config(RECIPES / config, [*common, *overrides])
        self.batches = [self.source().batch(step) for step in range(steps)]

    def source(self) -> TimedSource:
        return TimedSource(
            self.config.build_mixture(), self.codec, batch_size=self.config.train.batch_size, seed=0
        )

    def model(self) -> torch.nn.Module:
        return build_model(self.config.model, self.codec, 0)

    def step_time(self, times: list[float]) -> float:
        """Median seconds between neighbours, the first few left out."""
        gaps = [b - a for a, b in zip(times[self.warm :], times[self.warm + 1 :], strict=False)]
        return statistics.median(gaps)

    @property
    def useful_flop(self) -> float:
        """Of a step, see `useful_flop`."""
        return useful_flop(self.model().config, self.batches)


def block_shapes(sizes: Any) -> list[tuple[int, int]]:
    """(in, out) of each matrix of one layer of a Llama, from its config."""
    wide, own = sizes.hidden_size, sizes.hidden_size // sizes.num_attention_heads * sizes.num_key_value_heads
    return [(wide, wide)] * 2 + [(wide, own)] * 2 + [(wide, sizes.intermediate_size)] * 3


def useful_flop(sizes: Any, batches: Sequence[Batch]) -> float:
    """Mean operations of a step's matrix products on tokens that are no padding, backward included.

    Forward: 2 a weight and token read; output layer at answer tokens alone; attention 2 n² D a layer
    over an example of n tokens, for the half of the scores that a causal model needs. Backward: twice
    that.

    Args:
        sizes: config of a Llama.
        batches: of some steps.
    """
    layers, wide = sizes.num_hidden_layers, sizes.hidden_size
    block = layers * sum(a * b for a, b in block_shapes(sizes))
    total = 0.0
    for batch in batches:
        read = batch.lengths - 1.0
        total += 2 * block * read.sum() + 2 * layers * wide * (read**2).sum()
        total += 2 * sizes.vocab_size * wide * batch.answer_tokens
    return 3 * total / len(batches)


def ours(setting: Setting) -> float:
    """Seconds a step of `fit`."""
    source = setting.source()
    setting.config.run_dir.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(setting.config, setting.model(), setting.codec, source, lambda model, step: None)
    fit(run, Accelerator(), progress=False)
    return setting.step_time(source.starts)


def rows_of(batch: Batch) -> list[dict[str, list[int]]]:
    """Token ids and labels of each example."""
    rows = []
    for ids, length, scored in zip(batch.ids, batch.lengths, batch.scored, strict=True):
        tokens = ids[:length].tolist()
        labels = [t if s else IGNORE for t, s in zip(tokens, scored[:length], strict=True)]
        rows.append({"input_ids": tokens, "labels": labels})
    return rows


def padded(pad_id: int) -> Callable[[list[dict[str, list[int]]]], dict[str, torch.Tensor]]:
    """A collator that pads a batch to its longest example."""

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        lengths = torch.tensor([len(r["input_ids"]) for r in rows])
        ids = pad([torch.tensor(r["input_ids"]) for r in rows], batch_first=True, padding_value=pad_id)
        labels = pad([torch.tensor(r["labels"]) for r in rows], batch_first=True, padding_value=IGNORE)
        # by length, as the padding token may be the one that ends a text
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    return collate


def trainer_settings(config: Config) -> dict[str, object]:
    """Arguments of `TrainingArguments` that come to a config's training."""
    train = config.train
    return {
        "output_dir": config.output_dir,
        "max_steps": train.steps,
        "per_device_train_batch_size": train.batch_size,
        "learning_rate": train.learning_rate,
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {"num_decay_steps": round(train.decay * train.steps)},
        "warmup_steps": round(train.warmup * train.steps),
        "train_sampling_strategy": "sequential",
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "bf16": train.precision == "bf16",
    }


def trainers(setting: Setting) -> float:
    """Seconds a step of `transformers.Trainer`."""
    examples = [row for batch in setting.batches for row in rows_of(batch)]
    model, clock = setting.model(), Clock()
    model.config.use_cache = False
    settings = TrainingArguments(**trainer_settings(setting.config))
    collate = padded(setting.codec.pad_id)
    Trainer(model, settings, data_collator=collate, train_dataset=examples, callbacks=[clock]).train()
    return setting.step_time(clock.ends)


def sft(setting: Setting, packed: bool) -> float:
    """Seconds that TRL's `SFTTrainer` takes for as many useful tokens as a step of ours has."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    logging.getLogger("trl").setLevel(logging.ERROR)
    rows = [row for batch in setting.batches for row in rows_of(batch)]
    model, clock, common = setting.model(), Clock(), trainer_settings(setting.config)
    model.config.use_cache = False
    per_step = sum(len(row["input_ids"]) for row in rows) / len(setting.batches)
    share = 1.0
    if packed:
        count = max(1, round(per_step / PACKED))
        # packed rows are nearly full; a few steps fewer than asked, so that none begins anew
        common |= {
            "per_device_train_batch_size": count,
            "max_steps": max(setting.warm + 2, setting.steps - 2),
        }
        share = per_step / (count * PACKED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                **common,
                packing=packed,
                max_length=PACKED,
                gradient_checkpointing=False,
                shuffle_dataset=False,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=setting.codec.tokenizer,
            callbacks=[clock],
        )
        trainer.train()
    return setting.step_time(clock.ends) * share


def compare(quick: bool) -> list[tuple[Comparison, Setting]]:
    """Comparisons, each with its setting."""
    demo = Setting("demo/transfer.yaml", [], steps=16 if quick else 50, warm=4 if quick else 10)
    paper = Setting("paper/addition.yaml", ["train.batch_size=128"], steps=3, warm=1)
    found = []
    for name, setting, targets, rounds in (
        ("training step, demo", demo, {"Trainer": 1.6, "SFTTrainer": 2.2}, 2 if quick else 5),
        ("training step, 14M parameters", paper, {"Trainer": 1.9, "SFTTrainer": 2.1}, 1 if quick else 5),
    ):
        sides = {
            OURS: lambda setting=setting: ours(setting),
            "Trainer": lambda setting=setting: trainers(setting),
            "SFTTrainer": lambda setting=setting: sft(setting, packed=False),
            "SFTTrainer, packed": lambda setting=setting: sft(setting, packed=True),
        }
        found.append((alternate(name, sides, rounds, target=targets), setting))
    return found

"""A training step of the demo, side by side with `transformers.Trainer` on the same examples.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py

Both train the same initial weights on the same batches with AdamW, clipping and the same schedule.
Ours draws its batches while it is timed; the Trainer gets its examples ready-made and in memory, and
pads each batch to its longest example. The two alternate; the ratio of each pair is taken, and the
median of the ratios told.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_lgt import load_config
from hf_lgt.batching import IGNORE
from hf_lgt.codec import Codec
from hf_lgt.config import Config
from hf_lgt.models import build_model
from hf_lgt.sources import GeneratedSource, Source
from hf_lgt.trainer import fit

DEMO = Path(__file__).parent.parent / "recipes" / "demo" / "transfer.yaml"
WARM = 10


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

    def batch(self, step: int):
        self.starts.append(time.perf_counter())
        return super().batch(step)


def ours(config: Config, codec: Codec) -> float:
    """Median seconds a step of `fit`."""
    model = build_model(config.model, codec, 0)
    source = TimedSource(config.build_mixture(), codec, batch_size=config.train.batch_size, seed=0)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    fit(config, model, codec, source, Accelerator(), evaluate=lambda model, step: None, progress=False)
    return median_gap(source.starts)


def ready_made(source: Source, steps: int) -> list[dict[str, torch.Tensor]]:
    """The examples of some steps as the Trainer takes them, in memory."""
    examples = []
    for step in range(steps):
        batch = source.batch(step)
        for ids, length, scored in zip(batch.ids, batch.lengths, batch.scored, strict=True):
            row = torch.from_numpy(ids[:length])
            labels = torch.where(torch.from_numpy(scored[:length]), row, IGNORE)
            examples.append({"input_ids": row, "labels": labels})
    return examples


def padded(pad_id: int) -> Callable[[list[dict[str, torch.Tensor]]], dict[str, torch.Tensor]]:
    """A collator that pads a batch to its longest example."""

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        lengths = torch.tensor([len(r["input_ids"]) for r in rows])
        ids = pad([r["input_ids"] for r in rows], batch_first=True, padding_value=pad_id)
        labels = pad([r["labels"] for r in rows], batch_first=True, padding_value=IGNORE)
        # by length, as the padding token may be the one that ends a text
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    return collate


def trainers(config: Config, codec: Codec) -> float:
    """Median seconds a step of `transformers.Trainer`."""
    source = GeneratedSource(config.build_mixture(), codec, batch_size=config.train.batch_size, seed=0)
    examples = ready_made(source, config.train.steps)
    model, train, clock = build_model(config.model, codec, 0), config.train, Clock()
    model.config.use_cache = False
    settings = TrainingArguments(
        output_dir=config.output_dir,
        max_steps=train.steps,
        per_device_train_batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim="adamw_torch_fused",
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": round(train.decay * train.steps)},
        warmup_steps=round(train.warmup * train.steps),
        train_sampling_strategy="sequential",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    Trainer(
        model, settings, data_collator=padded(codec.pad_id), train_dataset=examples, callbacks=[clock]
    ).train()
    return median_gap(clock.ends)


def median_gap(times: list[float]) -> float:
    """Median seconds between neighbours, the first few left out."""
    return statistics.median(b - a for a, b in zip(times[WARM:], times[WARM + 1 :], strict=False))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=60)
    arguments.add_argument("--json", type=Path, help="write the numbers here")
    known = arguments.parse_args()
    codec, pairs = Codec.build(), []
    for _ in range(known.rounds):
        with tempfile.TemporaryDirectory() as folder:
            overrides = [f"train.steps={known.steps}", f"output_dir={folder}", "train.save_every=null"]
            config = load_config(DEMO, overrides)
            pairs.append((ours(config, codec), trainers(config, codec)))
        print(f"hf_lgt {pairs[-1][0] * 1e3:6.1f} ms   Trainer {pairs[-1][1] * 1e3:6.1f} ms")
    ratio = statistics.median(theirs / mine for mine, theirs in pairs)
    print(f"median ratio Trainer / hf_lgt: {ratio:.2f} ({torch.get_num_threads()} threads)")
    if known.json:
        known.json.write_text(json.dumps({"seconds": pairs, "median_ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()

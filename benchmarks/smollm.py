"""SmolLM2-360M's exact architecture on two CPU cores: memory and time, beside `transformers.Trainer`.

    python benchmarks/smollm.py --json benchmarks/smollm.json

The weights are random, saved once in bfloat16 as the released ones are, and fine-tuned three steps on the
paper's group of figure 3a (reverse_add <= 16, no_carry and carry_only <= 32), batch 32, in float32: all
weights, and with LoRA. Each variant runs in a process of its own, whose peak resident memory is reported;
ours is the whole of `recipes/finetune.py` with its evaluations and the saved model. The Trainer gets the same
model and the same examples, ready-made, and pads each batch to its longest example.
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
STEPS, BATCH = 3, 32
SMOLLM2_360M = {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
SETTINGS = [
    "name=smollm",
    "model.init=pretrained",
    "mixture=[{task: reverse_add, role: target, lengths: [1, 16]},"
    " {task: no_carry, role: auxiliary, lengths: [1, 32]},"
    " {task: carry_only, role: auxiliary, lengths: [1, 32]}]",
    f"train.steps={STEPS}",
    f"train.batch_size={BATCH}",
    "train.learning_rate=1.0e-4",
    "train.log_every=1",
    "train.eval_every=null",
    "train.save_every=null",
    "eval.lengths=[1, 32]",
    "eval.every=31",
    "eval.examples=4",
]


def make_checkpoint(folder: Path) -> None:
    """Random weights of SmolLM2-360M's sizes, with a byte-level tokenizer of as many tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(**SMOLLM2_360M)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    texts = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    texts += [f"filler {i}" for i in range(config.vocab_size - len(texts))]
    core = Tokenizer(models.BPE({text: i for i, text in enumerate(texts)}, []))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    end = {f"{name}_token": "<|endoftext|>" for name in ("bos", "eos", "unk")}
    PreTrainedTokenizerFast(tokenizer_object=core, **end).save_pretrained(folder)


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


def trainers(overrides: list[str], out: Path) -> list[float]:
    """Seconds of each step of `transformers.Trainer`."""
    import torch
    from transformers import Trainer, TrainingArguments

    from benchmarks.training import Clock, padded, rows_of
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

    class FromStart(Clock):
        def on_step_begin(self, *arguments: object, **settings: object) -> None:
            if not self.ends:
                self.ends.append(time.perf_counter())

    clock = FromStart()
    settings = TrainingArguments(
        output_dir=str(out),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        learning_rate=config.train.learning_rate,
        weight_decay=config.train.weight_decay,
        max_grad_norm=config.train.max_grad_norm,
        optim="adamw_torch_fused",
        train_sampling_strategy="sequential",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    torch.manual_seed(0)
    examples = [row for step in range(STEPS) for row in rows_of(data.source.batch(step))]
    Trainer(
        model, settings, data_collator=padded(data.codec.pad_id), train_dataset=examples, callbacks=[clock]
    ).train()
    return [b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False)]


# twice the passes a step: frozen weights leave activations as most of the memory
LORA = ["peft.method=lora", "train.length_buckets=8"]
VARIANTS = {
    "hf_lgt, all weights": (ours, []),
    "Trainer, all weights": (trainers, []),
    "hf_lgt, LoRA": (ours, LORA),
    "Trainer, LoRA": (trainers, LORA),
}


def work(variant: str, base: str) -> None:
    """One variant, in this process: prints what it took."""
    how, more = VARIANTS[variant]
    with tempfile.TemporaryDirectory() as folder:
        seconds = how([*SETTINGS, f"model.name_or_path={base}", *more], Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"variant": variant, "seconds_a_step": seconds, "peak_gib": round(peak, 2)}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--json", type=Path, help="write the numbers here")
    arguments.add_argument("--only", nargs="+", choices=VARIANTS, default=[*VARIANTS], help="some variants")
    arguments.add_argument("--base", help=argparse.SUPPRESS)
    known = arguments.parse_args()
    if known.base:
        work(known.only[0], known.base)
        return
    results = []
    with tempfile.TemporaryDirectory() as base:
        make_checkpoint(Path(base))
        for variant in known.only:
            command = [sys.executable, __file__, "--only", variant, "--base", base]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-4000:])
            results.append(json.loads(done.stdout.splitlines()[-1]))
            shown = statistics.median(results[-1]["seconds_a_step"])
            print(f"{variant:22} {shown:6.1f} s a step, peak {results[-1]['peak_gib']:.2f} GiB", flush=True)
    if known.json:
        known.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

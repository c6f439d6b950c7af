"""Training and evaluation on a GPU, side by side with `transformers.Trainer`: `run.py --gpu`.

bf16 arithmetic, compiled models (`train.compile`) and such that are not, answer-only logits, batches drawn
while they are timed; the Trainer has its examples in memory, pads each batch to its longest and runs in bf16,
compiled and not. A model's FLOP utilisation counts the arithmetic on tokens that are no padding, against the
peak that the maker names for dense bf16 and against what matrix products alone reach at the same shapes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from benchmarks.limits import matrix_products, wait_for
from benchmarks.sides import OURS, alternate
from benchmarks.training import RECIPES, Clock, padded, rows_of, trainer_settings, useful_flop
from hf_lgt import load_config
from hf_lgt.config.schema import Config
from hf_lgt.data.build import RunData, prepare_data
from hf_lgt.evaluation.harness import evaluate_tests
from hf_lgt.models.base_checkpoint import BaseCheckpoint, open_base_checkpoint
from hf_lgt.training.accelerator import make_accelerator
from hf_lgt.training.loop import Loop
from hf_lgt.training.stacked_trainer import StackedStep
from hf_lgt.training.step import TrainingRun
from hf_lgt.training.trainer import SingleStep
from hf_lgt.utils import yaml
from hf_lgt.utils.environment import describe_environment
from hf_lgt.workflows.setup import make_model

NAMED_PEAKS = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12, "B200": 2250e12}
"""dense bf16 operations a second by the makers' data sheets, SXM forms"""
TINY = ["model.layers=1", "model.hidden_size=32", "model.heads=2", "model.intermediate_size=64"]
TINY += ["train.batch_size=8", "eval.examples=8", "eval.lengths=[1,3]"]
TOGETHER = 16  # runs


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


def no_evaluation(model: Any, step: int) -> None:
    """What a timed training calls."""


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


class Work:
    """A config's model and data, timed over some steps after some to warm up."""

    def __init__(self, config: Config, warm: int, timed: int, rounds: int) -> None:
        self.config, self.warm, self.timed, self.rounds = config, warm, timed, rounds
        self.compiled = config.train.precision == "bf16"
        self.start: BaseCheckpoint | None = (
            open_base_checkpoint(config.model) if config.model.name_or_path else None
        )
        self.data: RunData = prepare_data(config, None, self.start)
        self.batches = [self.data.source.batch(step) for step in range(min(timed, 4))]
        self.accelerator = make_accelerator(config)
        self.device = self.accelerator.device

    def seconds(self, step: Callable[[], object]) -> float:
        """Mean seconds a step; the device has ended all of them."""
        for _ in range(self.warm):
            step()
        wait_for(self.device)
        begun = time.perf_counter()
        for _ in range(self.timed):
            step()
        wait_for(self.device)
        return (time.perf_counter() - begun) / self.timed

    def loop(self, compiled: bool) -> Loop:
        config = load_config_like(self.config, f"train.compile={str(compiled).lower()}")
        config.run_dir.mkdir(parents=True, exist_ok=True)
        model = make_model(config, self.start, self.data.codec)
        run = TrainingRun(config, model, self.data.codec, self.data.source, no_evaluation)
        return Loop([run], self.accelerator, SingleStep)

    def ours(self, compiled: bool) -> float:
        loop = self.loop(compiled)
        try:
            return self.seconds(loop.take_step)
        finally:
            loop.close()

    def trainers(self, compiled: bool) -> float:
        steps = self.warm + self.timed
        device = self.device

        class Waiting(Clock):
            def on_step_end(self, *arguments: object, **settings: object) -> None:
                # within the timed steps the device is not waited for
                if len(self.ends) + 1 in (warm, steps):
                    wait_for(device)
                super().on_step_end()

        warm, clock = self.warm, Waiting()
        settings: dict[str, Any] = trainer_settings(self.config)
        settings |= {"max_steps": steps, "dataloader_pin_memory": device.type == "cuda"}
        model = make_model(self.config, self.start, self.data.codec)
        model.config.use_cache = False
        examples = [row for step in range(steps) for row in rows_of(self.data.source.batch(step))]
        Trainer(
            model,
            TrainingArguments(**settings, torch_compile=compiled, use_cpu=device.type == "cpu"),
            data_collator=padded(self.data.codec.pad_id),
            train_dataset=examples,
            callbacks=[clock],
        ).train()
        return (clock.ends[-1] - clock.ends[warm - 1]) / self.timed

    def together(self) -> float:
        """Seconds that a step of several runs together takes, for each of them."""
        runs = []
        for seed in range(TOGETHER):
            config = load_config_like(self.config, f"seed.init={seed}", "train.compile=false")
            config.run_dir.mkdir(parents=True, exist_ok=True)
            model = make_model(config, self.start, self.data.codec)
            runs.append(TrainingRun(config, model, self.data.codec, self.data.source, no_evaluation))
        loop = Loop(runs, self.accelerator, StackedStep)
        try:
            return self.seconds(loop.take_step) / TOGETHER
        finally:
            loop.close()

    def evaluation(self) -> float:
        """Seconds of an evaluation, its test sets drawn."""
        model = make_model(self.config, self.start, self.data.codec).to(self.device)
        begun = time.perf_counter()
        with self.accelerator.autocast():
            evaluate_tests(model, self.data.tests, batch_tokens=self.config.eval.batch_tokens)
        return time.perf_counter() - begun

    def waits(self) -> str:
        """What a step waits for, where torch makes an error of every wait for the device."""
        if self.device.type != "cuda":
            return "not tried: no GPU"
        loop = self.loop(compiled=False)
        loop.take_step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(2):
                loop.take_step()
        except RuntimeError as error:
            return str(error)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            loop.close()
        return "nothing"


def load_config_like(config: Config, *overrides: str) -> Config:
    """A config with overrides."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.dump(config.to_dict()), encoding="utf-8")
        return load_config(file, overrides)


def training(name: str, work: Work, target: dict[str, float]) -> dict[str, Any]:
    """A comparison of training steps with its share of the peaks."""
    sides = {OURS: lambda: work.ours(work.compiled), "Trainer": lambda: work.trainers(False)}
    if work.compiled:
        sides["hf_lgt, not compiled"] = lambda: work.ours(False)
        sides["Trainer, compiled"] = lambda: work.trainers(True)
    own = alternate(name, sides, work.rounds, target=target).to_dict()
    sizes = make_model(work.config, work.start, work.data.codec).config
    flop = useful_flop(sizes, work.batches)
    dtype = torch.bfloat16 if work.compiled else torch.float32
    reached = flop / own["medians"][OURS]
    peak = matrix_products(sizes, work.batches, work.rounds, work.device, dtype)
    kind = torch.cuda.get_device_name() if work.device.type == "cuda" else "cpu"
    named = next((value for key, value in NAMED_PEAKS.items() if key in kind), None)
    own |= {"useful_flop": flop, "peak_flop_per_second": peak, "share_of_peak": reached / peak}
    return {**own, "named_peak": named, "utilisation": None if named is None else reached / named}


def measure(tiny: bool, folder: Path) -> dict[str, Any]:
    """What gpu.json holds.

    Args:
        tiny: tiny sizes in float32, without compiling, on whatever device there is.
        folder: for runs and checkpoints.
    """
    common = [f"output_dir={folder}", "train.eval_every=null", "train.save_every=null"]
    # few CPUs have bf16, and all are slow at the rest of it
    common.append("train.precision=no" if tiny else "train.precision=bf16")
    small = TINY if tiny else []
    rounds, warm, timed = (1, 2, 2) if tiny else (5, 10, 30)
    steps = f"train.steps={max(100, warm + timed)}"
    paper = load_config(RECIPES / "paper/addition.yaml", [*common, steps, *small])
    demo = load_config(RECIPES / "demo/transfer.yaml", [*common, steps, *small])
    found = [training("training step, 14M parameters, batch 1024", Work(paper, warm, timed, rounds),
                      {"Trainer": 4.0})]  # fmt: skip
    if not tiny:
        base = folder / "base"
        make_checkpoint(base)
        own = [f"model.name_or_path={base}", "model.revision=null", "train.gradient_accumulation_steps=1"]
        group = load_config(
            RECIPES / "smollm/group_no_carry.yaml", [*own, *common, steps, "train.batch_size=256"]
        )
        found.append(training("training step, SmolLM2-360M's sizes, batch 256",
                              Work(group, 5, 10, rounds), {}))  # fmt: skip
    many, paper_work = Work(demo, warm, timed, rounds), Work(paper, warm, timed, rounds)
    sides = {OURS: many.together, "one run after the other": lambda: many.ours(False)}
    found.append(alternate(f"a step of the demo, {TOGETHER} runs together", sides, rounds).to_dict())
    evaluations = [paper_work.evaluation() for _ in range(rounds + 1)][1:]
    return {
        "environment": describe_environment(str(many.device), 1),
        "comparisons": found,
        "evaluation": {
            "examples": paper.eval.examples,
            "lengths": list(paper.eval.lengths),
            "seconds": statistics.median(evaluations),
        },
        "a step waits for": paper_work.waits(),
    }

"""Evaluate what is saved: a run, one of its checkpoints, or any local model folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.sampling import HeldOut, stream
from hf_lgt import yaml12
from hf_lgt.checkpoints import MANIFEST, verify
from hf_lgt.codec import Codec
from hf_lgt.config import Config, ConfigError, load_config
from hf_lgt.evaluation.generation import Agreement, check_generation
from hf_lgt.evaluation.harness import evaluate
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.files import atomic_directory
from hf_lgt.folders import is_finished, read_run_config
from hf_lgt.report.figures import curves_figure, save_figure
from hf_lgt.report.tables import length_table, summary_lines

FILES = {"eval.jsonl", "config.yaml", "curves.png"}
"""what an evaluation is, and all that ``--overwrite`` may replace"""


@dataclass(frozen=True)
class Found:
    """A model on disk and what it is evaluated on."""

    folder: Path
    """what `from_pretrained` reads"""
    step: int
    config: Config
    """tasks, lengths and test seed of the evaluation"""
    trained: Config | None
    """config of the run it comes from, if any: says which prompts it never saw"""
    output: Path
    """where evaluations go by default"""


def find_model(path: str | Path, config: str | None, overrides: Sequence[str]) -> Found:
    """Find out what a user's path names.

    Args:
        path: a run's folder, a checkpoint of it, or a folder with a model of any origin.
        config: file that names the tasks; needed where the path belongs to no run.
        overrides: ``section.key=value``.

    Raises:
        ConfigError: no model there, or no config; also every fault of the config.
    """
    path = Path(path).resolve()
    run = next((p for p in (path, path.parent, path.parent.parent) if (p / "config.yaml").is_file()), None)
    folder = path / "model" if run == path else path
    if run == path and not is_finished(path):
        raise ConfigError([f"{path} is not finished and has no model/; name one of its checkpoints/"])
    if not (folder / "config.json").is_file():
        raise ConfigError([f"{path}: no run and no model (no config.yaml, no config.json)"])
    if not run and not config:
        raise ConfigError([f"{path} belongs to no run; --config must name the tasks to evaluate"])
    file = config or str(run / "config.yaml") if run else str(config)
    if not run:
        from transformers import AutoConfig

        with readable(folder):
            about = AutoConfig.from_pretrained(folder, local_files_only=True)
        limit = getattr(about, "max_position_embeddings", None)
        overrides = [*overrides, *([f"model.max_positions={limit}"] if limit else [])]
    wanted = load_config(file, overrides)
    trained = read_run_config(run) if run else None
    name = folder.name.removeprefix("step-")
    step = int(name) if name.isdigit() else trained.train.steps if trained else 0
    # not into a run's folder, which a foreign model has none of: training would find it taken
    output = run / "evaluations" if run else Path(wanted.output_dir) / "evaluations" / wanted.name
    return Found(folder, step, wanted, trained, output)


def reevaluate(found: Found, output: str | None, overwrite: bool, say: Callable[[str], None]) -> Path:
    """Evaluate, write ``eval.jsonl``, ``config.yaml`` and ``curves.png``, say the table.

    Raises:
        ConfigError: the folder exists, or the model's tokenizer lacks a symbol.
    """
    test = found.config.eval
    slug = f"step-{found.step:06d}-lengths-{test.lengths[0]}-{test.lengths[1]}-examples-{test.examples}"
    out = Path(output) if output else found.output / f"{slug}-seed-{test.seed}"
    if out.exists() and not overwrite:
        raise ConfigError([f"--output: {out} exists; choose another, or give --overwrite to replace it"])
    if out.exists() and not (out.is_dir() and {p.name for p in out.iterdir()} <= FILES):
        raise ConfigError([f"--output: {out} holds more than an evaluation; --overwrite spares it"])
    model, codec = load_model(found)
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work: a path that cannot be is told now
    records = _evaluate(model, codec, found)
    with atomic_directory(out, replace=overwrite) as draft:
        (draft / "eval.jsonl").write_text("".join(r.to_json() + "\n" for r in records))
        (draft / "config.yaml").write_text(yaml12.dump(found.config.to_dict()))
        save_figure(curves_figure(found.config, records), draft / "curves.png")
    say(length_table(found.config, records))
    for line in summary_lines(found.config, records):
        say(line)
    return out


def check(found: Found, say: Callable[[str], None], lengths: Sequence[int] | None = None) -> list[Agreement]:
    """Compare teacher-forced exact match with greedy generation, for each target and length."""
    model, codec = load_model(found)
    test = found.config.eval
    results = []
    for component in found.config.build_mixture().with_role("target"):
        least = component.definition.smallest_length(component.options)
        for length in lengths or test.grid:
            if length < least:
                continue
            if not component.definition.sample(stream(0, "check"), length, 1, **component.options).scores_eos:
                say(f"{component.task}: not checked, parts of its answers are given")
                break
            a = check_generation(model, codec, component, length, examples=test.examples, seed=test.seed)
            margin = "" if a.widest_margin is None else f", widest margin {a.widest_margin:.2e}"
            say(
                f"{a.task} at length {length}: teacher-forced {a.teacher_forced:.4f}, generate "
                f"{a.generated:.4f}, {a.disagreements} of {a.n} disagree{margin}"
            )
            results.append(a)
    return results


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns whatever a damaged or foreign model folder makes the libraries raise into one message."""
    try:
        yield
    except Exception as error:  # JSON, tokenizers, safetensors and torch each raise their own
        reason = " ".join(str(error).split())[:200]
        raise ConfigError([f"{folder}: cannot be loaded: {type(error).__name__}: {reason}"]) from None


def load_model(found: Found) -> tuple[Any, Codec]:
    """The model, on the GPU if there is one, and its codec."""
    import torch
    from transformers import AutoModelForCausalLM

    with readable(found.folder):
        if (found.folder / MANIFEST).is_file():
            verify(found.folder)
        codec = Codec.load(found.folder, tags=found.config.data.tags)
        model: Any = AutoModelForCausalLM.from_pretrained(found.folder, local_files_only=True)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), codec


def _evaluate(model: Any, codec: Codec, found: Found) -> list[EvalRecord]:
    test, trained = found.config.eval, found.trained
    held_out = None
    if trained:
        seen = trained.eval
        held_out = HeldOut(trained.build_mixture(), seen.grid, seen.examples, seen.seed)
    try:
        return evaluate(
            model,
            codec,
            found.config.build_mixture().components,
            test.grid,
            examples=test.examples,
            seed=test.seed,
            step=found.step,
            batch_tokens=test.batch_tokens,
            held_out=held_out,
            progress=True,
        )
    except ValueError as error:
        raise ConfigError([f"{found.folder}: {error}"]) from None

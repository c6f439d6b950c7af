"""A whole run: config -> folder, model, training with evaluation, saved model and card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration

from data_builders.sampling import HeldOut
from hf_lgt import yaml12
from hf_lgt.checkpoints import atomic_directory, atomic_file, list_checkpoints, newest_checkpoint
from hf_lgt.codec import Codec
from hf_lgt.config import Config, ConfigError, config_from_dict
from hf_lgt.environment import describe_environment
from hf_lgt.evaluation.harness import evaluate
from hf_lgt.evaluation.records import EvalRecord, last_step, read_records
from hf_lgt.models import build_model
from hf_lgt.report.model_card import model_card
from hf_lgt.sources import GeneratedSource
from hf_lgt.trainer import fit


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    run_dir: Path
    records: list[EvalRecord]
    """of the last evaluation"""


def train(
    config: Config,
    *,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Train, evaluate and save one run.

    A run of the same config that was interrupted goes on from its newest whole checkpoint, with the
    same numbers as if it had not been. A finished one, or one of another config, is never touched.

    Args:
        config: from `load_config`.
        overwrite: remove what an earlier run left in the folder.
        progress: show bars.
        say: takes a line of news for the user, on the main process.

    Raises:
        ConfigError: the folder holds another or a finished run, or the config does not suit this
            machine.
        TrainingError: the loss is not finite.
    """
    accelerator = _accelerator(config)
    resume_from, news = prepare_folder(config, overwrite, accelerator)
    if accelerator.is_main_process:
        for line in news:
            say(line)
    mixture = config.build_mixture()
    codec = Codec.build(tags=config.data.tags)
    model = build_model(config.model, codec, config.seed.init)
    held_out = HeldOut(mixture, config.eval.grid, config.eval.examples, config.eval.seed)
    source = GeneratedSource(
        mixture, codec, batch_size=config.train.batch_size, seed=config.seed.data, held_out=held_out
    )
    log = config.run_dir / "eval.jsonl"

    def evaluate_at(bare: Any, step: int) -> None:
        records = evaluate(
            bare,
            codec,
            mixture.components,
            config.eval.grid,
            examples=config.eval.examples,
            seed=config.eval.seed,
            step=step,
            batch_tokens=config.eval.batch_tokens,
            held_out=held_out,
            progress=progress and accelerator.is_main_process,
        )
        if accelerator.is_main_process:
            with open(log, "a", encoding="utf-8") as file:
                file.write("".join(record.to_json() + "\n" for record in records))
        means = {f"exact_match/{r.task}/length_{r.length:03d}": r.exact_match for r in records}
        accelerator.log(means, step=step)

    if config.train.trackers:
        accelerator.init_trackers(config.name, config=_flat(config.to_dict()))
    bare = fit(
        config,
        model,
        codec,
        source,
        accelerator,
        evaluate=evaluate_at,
        resume_from=resume_from,
        progress=progress,
    )
    accelerator.wait_for_everyone()
    records = last_step(read_records(log))
    if accelerator.is_main_process:
        with atomic_directory(config.run_dir / "model") as draft:
            bare.save_pretrained(draft)
            codec.save(draft)
            (draft / "README.md").write_text(model_card(config, records), encoding="utf-8")
    accelerator.end_training()
    return RunResult(config.run_dir, records)


def is_finished(run_dir: Path) -> bool:
    """Whether a run came to its end: its model is written last."""
    return (run_dir / "model").is_dir()


def read_run_config(run_dir: Path) -> Config:
    """The config that a run was made with.

    Raises:
        ConfigError: there is none, or it is not valid.
    """
    try:
        data = yaml12.load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml12.YAMLError):
        data = None
    if not isinstance(data, dict):
        raise ConfigError([f"{run_dir} is no run: it has no config.yaml that can be read"])
    return config_from_dict(data)


def _accelerator(config: Config) -> Accelerator:
    """An accelerator for this config; checks what depends on the machine."""
    # A second run in one process may ask for another precision, which the shared state refuses.
    if AcceleratorState().initialized if AcceleratorState._shared_state else False:
        AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=config.train.precision,
        log_with=list(config.train.trackers) or None,
        project_config=ProjectConfiguration(
            project_dir=str(config.run_dir), logging_dir=str(config.run_dir / "trackers")
        ),
    )
    faults = []
    if config.train.batch_size % accelerator.num_processes:
        faults.append(
            f"train.batch_size: {config.train.batch_size} is no multiple of the "
            f"{accelerator.num_processes} processes"
        )
    if config.train.precision == "fp16" and accelerator.device.type == "cpu":
        faults.append("train.precision: 'fp16' needs a GPU; on a CPU use 'no' or 'bf16'")
    if faults:
        raise ConfigError(faults)
    return accelerator


def prepare_folder(
    config: Config, overwrite: bool, accelerator: Accelerator
) -> tuple[Path | None, list[str]]:
    """Make the run's folder ready; gives the checkpoint to continue from, and news for the user.

    Raises:
        ConfigError: the folder must not be touched, or cannot be made.
    """
    run_dir = config.run_dir
    faults: list[str] = []
    resume_from, news = None, []
    exists = run_dir.is_dir() and any(run_dir.iterdir())
    if exists and not overwrite:
        faults = _refusals(config)
        if not faults:
            resume_from, news = newest_checkpoint(run_dir)
    # all processes have looked at the folder before one of them changes it
    accelerator.wait_for_everyone()
    if faults:
        raise ConfigError(faults)
    if accelerator.is_main_process:
        try:
            if exists and overwrite:
                _remove_run(run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
            _write(run_dir / "config.yaml", yaml12.dump(config.to_dict()))
            about = describe_environment(str(accelerator.device), accelerator.num_processes)
            _write(run_dir / "environment.json", json.dumps(about, indent=1) + "\n")
        except OSError as error:
            raise ConfigError([f"output_dir: {run_dir}: {error.strerror}"]) from None
        step = int(resume_from.name.removeprefix("step-")) if resume_from else 0
        if exists and not overwrite:
            for name in ("train.jsonl", "eval.jsonl"):
                _cut_log(run_dir / name, step)
            news = [*news, f"{run_dir} was interrupted; it goes on from step {step}"]
    accelerator.wait_for_everyone()
    return resume_from, news


def _refusals(config: Config) -> list[str]:
    """Why an existing folder must not be trained into."""
    run_dir = config.run_dir
    advice = "choose another name or output_dir, or give --overwrite to remove it"
    if not (run_dir / "config.yaml").is_file():
        return [f"output_dir: {run_dir} holds files that are no run of hf_lgt; {advice}"]
    if is_finished(run_dir):
        return [f"name: {run_dir} holds a finished run; {advice}"]
    if read_run_config(run_dir) != config:
        return [f"name: {run_dir} holds an unfinished run of another config; {advice}"]
    return []


def _remove_run(run_dir: Path) -> None:
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError([f"output_dir: {run_dir} holds files that are no run; --overwrite spares them"])
    shutil.rmtree(run_dir)


def _cut_log(path: Path, step: int) -> None:
    """Keep the lines up to a step; what was logged after the checkpoint will be logged again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break  # the line that was being written when the run was stopped
        kept.append(line)
    _write(path, "".join(kept))


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``section.key``, for trackers that take plain values only."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, (int, float, str, bool))
            flat[prefix + key] = value if plain else json.dumps(value)
    return flat


__all__ = ["RunResult", "is_finished", "list_checkpoints", "read_run_config", "train"]

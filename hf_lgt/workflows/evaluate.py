"""Evaluate what is saved: a run, one of its checkpoints, or any local model folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_lgt.checkpointing.run_folder import check_place
from hf_lgt.data.eval_sets import TestSets
from hf_lgt.evaluation.generation import Agreement, check_generation
from hf_lgt.evaluation.harness import evaluate_tests
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.evaluation.trained_model import TrainedModel, load_trained_model, tests_of
from hf_lgt.report.canvas import AGAIN
from hf_lgt.report.results import show_results, write_figures
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import atomic_directory
from hf_lgt.utils.errors import ConfigError

_log = logging.getLogger(__name__)

FILES = {"eval.jsonl", "config.yaml", "curves.png", "mistakes.png"}
"""what an evaluation is, and all that ``--overwrite`` may replace"""


def reevaluate(found: TrainedModel, output: str | None, overwrite: bool) -> Path:
    """Evaluate, write ``eval.jsonl``, ``config.yaml`` and ``curves.png``, log the table.

    Raises:
        ConfigError: the folder exists, or the model's tokenizer lacks a symbol.
    """
    test = found.config.eval
    slug = f"step-{found.step:06d}-lengths-{test.lengths[0]}-{test.lengths[1]}-examples-{test.examples}"
    out = Path(output) if output else found.output / f"{slug}-seed-{test.seed}"
    check_place(out)
    there = os.path.lexists(out)
    if there and not overwrite:
        raise ConfigError([f"--output: {out} exists; choose another, or give --overwrite to replace it"])
    if there and not (out.is_dir() and {p.name for p in out.iterdir()} <= FILES):
        raise ConfigError([f"--output: {out} holds more than an evaluation; --overwrite spares it"])
    model, codec = load_trained_model(found)
    tests = tests_of(found, codec, model)
    records = _evaluate(model, tests, found)
    with atomic_directory(out, replace=overwrite) as draft:
        (draft / "eval.jsonl").write_text("".join(r.to_json() + "\n" for r in records), encoding="utf-8")
        (draft / "config.yaml").write_text(yaml.dump(found.config.to_dict()), encoding="utf-8")
        figures = write_figures(found.config, records, draft, AGAIN)
    show_results(found.config, records, [out / figure.name for figure in figures])
    return out


def check(found: TrainedModel, lengths: Sequence[int] | None = None) -> list[Agreement]:
    """Compare teacher-forced exact match with greedy generation, for each target and length."""
    model, codec = load_trained_model(found)
    tests = tests_of(found, codec, model)
    results = []
    for target in (c.task for c in found.config.mixture if c.role == "target"):
        for cell in (c for c in tests.cells if c.task == target and (not lengths or c.length in lengths)):
            if not tests.examples(cell).all_scored:
                _log.info(f"{target}: not checked, parts of its answers are given")
                break
            a = check_generation(model, tests, cell)
            margin = "" if a.widest_margin is None else f", widest margin {a.widest_margin:.2e}"
            _log.info(
                f"{a.task} at length {a.length}: teacher-forced {a.teacher_forced:.4f}, generate "
                f"{a.generated:.4f}, {a.disagreements} of {a.n} disagree{margin}"
            )
            results.append(a)
    return results


def _evaluate(model: Any, tests: TestSets, found: TrainedModel) -> list[EvalRecord]:
    test = found.config.eval
    try:
        return evaluate_tests(
            model,
            tests,
            step=found.step,
            batch_tokens=test.batch_tokens,
            mistakes=test.mistakes,
            progress=True,
        )
    except ValueError as error:
        raise ConfigError([f"{found.folder}: {error}"]) from None

"""Tiny runs of recipes/finetune.py, and whether two gave the same."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from tests.faults.processes import Starter

STEPS, SAVE_EVERY, EVAL_EVERY = 60, 5, 10
SETTINGS = {
    "name": "tiny",
    "model.layers": 1,
    "model.hidden_size": 32,
    "model.heads": 2,
    "model.intermediate_size": 64,
    "train.steps": STEPS,
    "train.batch_size": 16,
    "train.log_every": 1,
    "train.eval_every": EVAL_EVERY,
    "train.save_every": SAVE_EVERY,
    "eval.lengths": "[1,10]",
    "eval.examples": 32,
}


def arguments(output: Path, **settings: object) -> list[str]:
    """Options of the recipe; `train__steps=3` stands for ``train.steps``."""
    given = {**SETTINGS, **{key.replace("__", "."): value for key, value in settings.items()}}
    return [f"--{key}={value}" for key, value in given.items()] + [f"--output_dir={output}"]


def folder(output: Path) -> Path:
    """Where the run of these settings lies."""
    return output / "tiny" / "seed-0"


def reference(start: Starter, work: Path, **settings: object) -> tuple[Path, float]:
    """An undisturbed run: its folder and the seconds that it took."""
    work.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    running = start(arguments(work / "reference", **settings), work / "reference.log")
    if running.wait() != 0:
        raise RuntimeError(f"the undisturbed run failed:\n{running.text()}")
    return folder(work / "reference"), time.monotonic() - begun


def drafts(output: Path) -> list[str]:
    """What atomic writes and locks left, below a folder."""
    return sorted(str(p.relative_to(output)) for p in output.rglob(".*"))


def lines(path: Path, *, killed: bool = False) -> list[dict]:
    """The lines of a log; those that are whole where its run was killed.

    Raises:
        ValueError: one is no JSON, or not ended.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text and not killed:
        raise ValueError(f"the last line of {path.name} is cut")
    return [json.loads(line) for line in whole.splitlines()]


def differences(expected: Path, output: Path) -> list[str]:
    """In what the result of a run differs from that of the undisturbed one; empty: in nothing."""
    found, wrong = folder(output), []
    logs = []
    for run in (expected, found):
        try:
            logs.append(lines(run / "train.jsonl"))
        except ValueError as error:
            return [f"train.jsonl: {error}"]
    for log in logs:
        for line in log:
            line.pop("examples_per_second")
    if logs[0] != logs[1]:
        first = next((a["step"] for a, b in zip(*logs, strict=False) if a != b), min(map(len, logs)) + 1)
        wrong.append(f"train.jsonl differs from step {first}")
    for name in ("eval.jsonl", "model/model.safetensors"):
        same = (found / name).is_file() and (found / name).read_bytes() == (expected / name).read_bytes()
        wrong += [] if same else [f"{name} {'differs' if (found / name).is_file() else 'is missing'}"]
    return wrong + [f"left behind: {name}" for name in drafts(output)]


def told_error(text: str) -> str:
    """The first `error:` line of what a run printed, with the faults below it; empty if there is none."""
    match = re.search(r"^error: .*(\n  .*)*", text, re.MULTILINE)
    return match[0] if match else ""


def write_report(path: Path | None, report: dict) -> None:
    """Write the report as JSON, and on standard output its numbers."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
    short = {key: value for key, value in report.items() if not isinstance(value, list)}
    sys.stdout.write(json.dumps(short, indent=1) + "\n")

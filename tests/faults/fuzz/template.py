"""Finished and interrupted work of every recipe, made once, that cases take a copy of."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.faults.fuzz.planned import MODEL, recipe_main
from tests.faults.fuzz.running import end, fork

RUN: dict[str, Any] = {
    "name": "run",
    "model": {**MODEL, "max_positions": 128},
    "mixture": [
        {"task": "reverse", "role": "target", "lengths": [1, 2]},
        {"task": "string_copy", "role": "auxiliary", "lengths": [1, 3]},
    ],
    "train": {
        "steps": 2, "batch_size": 4, "eval_every": 1, "save_every": 1, "log_every": 1, "warmup": 0.0,
    },
    "eval": {"lengths": [1, 4], "examples": 4, "mistakes": 4},
}  # fmt: skip
OWN = {
    "base": "run.yaml",
    "name": "own",
    "model": {"tokenizer": "words"},
    "mixture": [
        {"task": "a", "role": "target", "lengths": [1, 2]},
        {"task": "b", "role": "auxiliary", "lengths": [1, 3]},
    ],
    "data": {"source": "dataset", "path": "rows.jsonl", "test_split": "train"},
    "eval": {"lengths": [1, 3]},
}
TUNED: dict[str, Any] = {
    **RUN,
    "name": "tuned",
    "model": {"init": "pretrained", "name_or_path": "pretrained/small", "revision": "step-1"},
    "peft": {"method": "lora", "rank": 2},
}
PRETRAIN = {
    "name": "small",
    "model": {**MODEL, "max_positions": 128},
    "text": {"source": "files", "files": ["text"], "validation_share": 0.2},
    "tokenizer": {"vocab_size": 300},
    "sequence_length": 16,
    "validation_sequences": 4,
    "train": {"steps": 2, "batch_size": 4, "eval_every": 1, "save_every": 1, "log_every": 1},
    "revisions": [0, 1],
}
COMPARE = {"name": "cmp", "arms": ["../run.yaml", "target_alone"], "seeds": [0, 1]}
FROM_CHECKPOINTS = {
    "name": "starts",
    "arms": ["../tuned.yaml"],
    "seeds": [0],
    "checkpoints": {
        "name_or_path": "pretrained/small",
        "revisions": ["step-0", "main"],
        "random_twin": True,
    },
}
GRID = {
    "name": "grid",
    "config": {"base": "../run.yaml"},
    "arms": ["transfer"],
    "grid": {"target_length": [1, 2]},
    "seeds": [0, 1],
}
TARGET = {"task": "reverse", "role": "target", "lengths": [1, 2]}
CANDIDATES = ("string_copy", "capitalize", "capitalize_reverse")
PAIRS = {
    "name": "pairs",
    "config": {"base": "../run.yaml"},
    "groups": {
        name: {"mixture": [TARGET, {"task": name, "role": "auxiliary", "lengths": [1, 3]}]}
        for name in CANDIDATES
    },
    "arms": ["transfer", "target_alone"],
    "seeds": [0],
}
FILES: dict[str, Any] = {
    "run.yaml": RUN,
    "own.yaml": OWN,
    "tuned.yaml": TUNED,
    "branch.yaml": {"base": "run.yaml", "name": "branch"},
    "foreign.yaml": {"base": "run.yaml", "mixture": RUN["mixture"][:1], "data": {"tags": False}},
    "random.yaml": {**TUNED, "name": "random", "model": {**TUNED["model"], "init": "random"}, "peft": {}},
    "pretrain.yaml": PRETRAIN,
    "cmp/compare.yaml": COMPARE,
    "cmp/starts.yaml": FROM_CHECKPOINTS,
    "sweeps/grid.yaml": GRID,
    "sweeps/pairs.yaml": PAIRS,
}
RELATED = [
    "--target", "reverse", "--candidates", ",".join(CANDIDATES), "--config", "run.yaml", "--steps", "1",
    "--seeds", "0", "--examples", "4",
]  # fmt: skip
CALLS: list[tuple[str, list[str]]] = [
    ("pretrain", ["--config", "pretrain.yaml"]),
    ("finetune", ["--config", "run.yaml"]),
    ("finetune", ["--config", "own.yaml"]),
    ("finetune", ["--config", "tuned.yaml"]),
    ("finetune", ["--config", "random.yaml"]),
    ("finetune", ["--config", "branch.yaml", "--resume", "runs/run/seed-0/checkpoints/step-000001"]),
    ("evaluate", ["runs/run/seed-0", "--eval.lengths", "[1,2]"]),
    ("compare", ["cmp", "--jobs", "1"]),
    ("compare", ["cmp/starts.yaml", "--jobs", "1"]),
    ("sweep", ["sweeps/grid.yaml", "--jobs", "1"]),
    ("sweep", ["sweeps/pairs.yaml", "--jobs", "1"]),
    ("analyze", ["related", *RELATED, "--jobs", "1"]),
    ("analyze", ["heads", "runs/run/seed-0", "--lengths", "2", "--examples", "4"]),
    ("build_dataset", ["--config", "run.yaml", "--train_examples", "8", "--lm_eval", "harness"]),
    ("report", ["runs/cmp"]),
]
"""what a template is made by"""
HALF = ("run", "own", "tuned", "branch")
"""runs of which an interrupted copy is made"""
IMPORTED = (
    "accelerate", "datasets", "matplotlib.pyplot", "peft", "hf_lgt.experiments.report.page",
    "hf_lgt.workflows.publish",
    "hf_lgt.workflows.evaluate", "transformers.models.llama.modeling_llama",
)  # fmt: skip
"""what takes longest to import; the template's makers tell the rest"""


class Forked:
    """Stands for `subprocess.Popen` where a comparison or sweep starts a run: a fork has all imported."""

    def __init__(self, words: Sequence[str], stdout: Any, env: dict[str, str], **_: Any) -> None:
        def work() -> int:
            os.environ.update(env)
            return int(end(recipe_main("finetune"), words[2:]))

        self.pid = fork(work, Path.cwd(), stdout.fileno(), stdout.fileno())

    def wait(self) -> int:
        """The status, once it has ended."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def terminate(self) -> None:
        """Ask it to end."""
        os.kill(self.pid, 15)


def fork_runs() -> None:
    """From now on comparisons and sweeps of this process fork their runs."""
    from hf_lgt.experiments import launch as running

    stand_in = SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    running.subprocess = stand_in  # type: ignore[assignment]


@cache
def folder() -> Path:
    """A folder with all that cases begin from; afterwards all that recipes import is imported here too.

    Raises:
        RuntimeError: a recipe failed; with what it said.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    place = Path(tempfile.mkdtemp(prefix="hf_lgt-fuzz-template-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    work, log = place / "work", place / "log"
    work.mkdir()
    pid = fork(lambda: _make(place / "modules"), work, log, log)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"the template could not be made:\n{log.read_text()[-5000:]}")
    for name in json.loads((place / "modules").read_text()):
        try:
            importlib.import_module(name)
        except Exception:  # made while another was imported
            continue
    _warm_up(place)
    return work


def _warm_up(place: Path) -> None:
    """Train and draw once here: what libraries keep from their first time, forks need not do again."""
    before = Path.cwd()
    os.chdir(place / "work")
    try:
        with open(place / "log", "a") as log, redirect_stdout(log), redirect_stderr(log):
            end(recipe_main("finetune"), ["--config", "run.yaml", f"--output_dir={place}"])
            end(recipe_main("report"), [f"{place}/run"])
    finally:
        os.chdir(before)


def _make(modules: Path) -> int:
    from hf_lgt.utils import yaml
    from tests.support.checkpoints import write
    from tests.support.tiny_pretraining import write_text

    fork_runs()
    for name, data in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(yaml.dump(data), encoding="utf-8")
    rows = [
        {"task": task, "length": n, "prompt": f"say w {n}", "target": "w " * n}
        for task in "ab"
        for n in (1, 2, 3)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_text(Path("text"), documents=8)
    write(Path("base"))
    for recipe, argv in CALLS:
        _finish(recipe, argv)
        if status := end(recipe_main(recipe), argv):
            sys.stdout.write(f"{recipe} {argv}: status {status}\n")
            return 1
    for name in HALF:
        run = shutil.copytree(f"runs/{name}", f"half/{name}")
        shutil.rmtree(Path(run, "seed-0", "model"))
        if name in ("own", "tuned"):  # a step is left, and no other checkpoint to begin from
            shutil.rmtree(Path(run, "seed-0", "checkpoints", "step-000002"))
    half = Path(shutil.copytree("pretrained/small", "half/small"))
    (half / "refs" / "main").unlink()
    known = [name for name, module in sys.modules.items() if getattr(module, "__spec__", None) is not None]
    modules.write_text(json.dumps(known))
    return 0


def _finish(recipe: str, argv: Sequence[str]) -> None:
    """Make the runs of a comparison or sweep by copies of trained ones, which takes no time."""
    from hf_lgt.commands.rank import plan_related
    from hf_lgt.experiments.plan import plan
    from hf_lgt.experiments.spec import load_comparison, load_sweep
    from tests.faults.fuzz.planned import question_of

    if recipe == "compare":
        runs: Sequence[Any] = plan(load_comparison(argv[0]))
    elif recipe == "sweep":
        runs = plan(load_sweep(argv[0]))
    elif argv[0] == "related":
        runs = plan_related(question_of(argv[1:]), "run.yaml")[1]
    else:
        return
    for run in runs:
        if not run.finished:
            _copy_run(run.config)


def _copy_run(config: Any) -> None:
    from hf_lgt.utils import yaml

    source = "tuned" if config.peft.method != "none" else "random" if config.model.name_or_path else "run"
    shutil.copytree(f"runs/{source}/seed-0", config.run_dir, ignore=shutil.ignore_patterns("checkpoints"))
    (config.run_dir / "config.yaml").write_text(yaml.dump(config.to_dict()), encoding="utf-8")
    tasks = {component.role: component.task for component in config.mixture}
    log = config.run_dir / "eval.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    kept = [{**line, "task": tasks[line["role"]]} for line in lines if line["role"] in tasks]
    log.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


def take(names: Sequence[str]) -> None:
    """Copy parts of the template into the current folder."""
    for name in names:
        for source in sorted(folder().glob(name)):
            place = Path.cwd() / source.relative_to(folder())
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy(source, place)

"""Push a finished run's model to the Hub, with its records, config and results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from data_builders.hub import push_folder
from hf_lgt import yaml12
from hf_lgt.evaluation.records import last_step, read_records
from hf_lgt.folders import DATA_FILE, read_run_config
from hf_lgt.report.model_card import hub_results, on_hub, public_config

RUN_FILES = (
    "config.yaml",
    "environment.json",
    "data.json",
    "eval.jsonl",
    "train.jsonl",
    "curves.png",
    "mistakes.png",
)
RESULTS_FILE = ".eval_results/hf_lgt.yaml"


def push_run(
    run_dir: Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """Push a finished run: the model with its card, and ``run/`` with what it was made by.

    Args:
        run_dir: folder of a finished run.
        repo_id: ``namespace/name``.
        private: make a new repository private, and refuse one that is not.
        revision: branch, None for the main one.
        say: takes a line about each attempt that failed.

    Returns:
        The address of the commit.

    Raises:
        PushError: it did not go through; what was there before is still there.
    """
    config, records = read_run_config(run_dir), last_step(read_records(run_dir / "eval.jsonl"))
    also: dict[str, Path | bytes] = {
        f"run/{name}": run_dir / name for name in RUN_FILES if (run_dir / name).is_file()
    }
    about = run_dir / DATA_FILE
    data = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
    also["run/config.yaml"] = yaml12.dump(public_config(config, data)).encode()
    if data and not on_hub(data):
        also[f"run/{DATA_FILE}"] = json.dumps({**data, "path": Path(data["path"]).name}).encode()
    if results := hub_results(config, records, data):
        also[RESULTS_FILE] = results.encode()
    return push_folder(
        run_dir / "model",
        repo_id,
        repo_type="model",
        private=private,
        revision=revision,
        message=f"{config.name}, init seed {config.seed.init}",
        # shards of an earlier model, and what an earlier run had that this one has not
        replaces=["model*.safetensors*", *(f"run/{name}" for name in RUN_FILES), RESULTS_FILE],
        also=also,
        say=say,
    )

"""Push a finished run's model to the Hub, with its records, config and results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_builders.hub.push import push_folder
from data_builders.reading import read_json
from hf_lgt.checkpointing.run_folder import CHECKPOINT_FILE, DATA_FILE, read_run_config, recorded_checkpoint
from hf_lgt.evaluation.records import last_step, read_records
from hf_lgt.report.model_card import hub_results, on_hub, public_config
from hf_lgt.utils import yaml

RUN_FILES = (
    "config.yaml",
    "environment.json",
    "data.json",
    "checkpoint.json",
    "eval.jsonl",
    "train.jsonl",
    "self_improvement.jsonl",
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
) -> str:
    """Push a finished run: the model with its card, and ``run/`` with what it was made by.

    Args:
        run_dir: folder of a finished run.
        repo_id: ``namespace/name``.
        private: make a new repository private, and refuse one that is not.
        revision: branch, None for the main one.

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
    data = read_json(about) if about.is_file() else {}
    base = recorded_checkpoint(run_dir)
    also["run/config.yaml"] = yaml.dump(public_config(config, data, base)).encode()
    if base and not base.get("on_hub"):
        base = {**base, "name_or_path": Path(str(base.get("name_or_path"))).name}
    if base:
        also[f"run/{CHECKPOINT_FILE}"] = (json.dumps(base, indent=1) + "\n").encode()
    also |= _adapters(run_dir / "adapter", base)
    if data and not on_hub(data):
        also[f"run/{DATA_FILE}"] = json.dumps({**data, "path": Path(str(data.get("path"))).name}).encode()
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
        replaces=["model*.safetensors*", "adapter/*", *(f"run/{name}" for name in RUN_FILES), RESULTS_FILE],
        also=also,
    )


def _adapters(folder: Path, base: Mapping[str, Any]) -> dict[str, Path | bytes]:
    """The files of ``adapter/``, which name a base on somebody's disk without its folder."""
    if not folder.is_dir():
        return {}
    files: dict[str, Path | bytes] = {f"adapter/{file.name}": file for file in sorted(folder.iterdir())}
    settings = read_json(folder / "adapter_config.json")
    settings["base_model_name_or_path"] = base.get("name_or_path")
    files["adapter/adapter_config.json"] = (json.dumps(settings, indent=2) + "\n").encode()
    return files

"""Push a finished pretraining to the Hub: each revision to the branch of its name, main last."""

from __future__ import annotations

from pathlib import Path

from data_builders.hub.push import push_folder
from data_builders.reading import read_json
from hf_lgt.models.local_hub import MAIN, list_revisions, snapshot
from hf_lgt.pretraining.config import PretrainConfig
from hf_lgt.pretraining.report import FIGURE, public_pretrain_config
from hf_lgt.pretraining.run import KIND
from hf_lgt.pretraining.validation import LOG
from hf_lgt.utils import yaml

RECORDS = ("environment.json", KIND.data_file, "train.jsonl", LOG, FIGURE)


def push_revisions(config: PretrainConfig, repo_id: str, *, private: bool = False) -> dict[str, str]:
    """Push every revision, with the config that it was made by; main also has the records.

    Args:
        config: of a finished pretraining.
        repo_id: ``namespace/name``.
        private: make a new repository private, and refuse one that is not.

    Returns:
        Revision -> the address of its commit.

    Raises:
        PushError: it did not go through; branches that were pushed before stay, the same command pushes
            the others.
    """
    run_dir = config.run_dir
    about = read_json(run_dir / KIND.data_file)
    settings = yaml.dump(public_pretrain_config(config, about)).encode()
    names = [name for name in list_revisions(run_dir) if name != MAIN]
    pushed = {}
    for name in (*names, MAIN):
        also: dict[str, Path | bytes] = {"run/config.yaml": settings}
        if name == MAIN:
            also |= {f"run/{file}": run_dir / file for file in RECORDS if (run_dir / file).is_file()}
        pushed[name] = push_folder(
            snapshot(run_dir, name),
            repo_id,
            repo_type="model",
            private=private,
            revision=None if name == MAIN else name,
            message=f"{config.name}, {name}",
            # shards of an earlier model, and the records of main where a branch begins as its copy
            replaces=["model*.safetensors*", *(f"run/{file}" for file in RECORDS)],
            also=also,
        )
    return pushed

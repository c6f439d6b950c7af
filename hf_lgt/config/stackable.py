"""Which runs can be trained together, as their configs say."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from hf_lgt.config.schema import Config, short


def shape_of(config: Config) -> dict[str, Any]:
    """What runs that are trained together must agree in, as plain data."""
    settings = config.to_dict()
    return {section: settings[section] for section in ("model", "train", "peft")}


def together_faults(configs: Sequence[Config]) -> list[str]:
    """Why runs cannot be trained together, as far as their configs tell."""
    return [*_refused(configs[0]), *_differences(configs), *_folders(configs)]


def _refused(config: Config) -> list[str]:
    """Settings that are for runs of their own."""
    train = config.train
    refused = {
        "train.compile": train.compile,
        "train.gradient_checkpointing": train.gradient_checkpointing,
        "train.trackers": bool(train.trackers),
        "train.until.exact_match": train.until.exact_match is not None,  # each would end at a step of its own
        "train.self_improvement.rounds": train.self_improvement.rounds > 0,  # each has examples of its own
        "train.precision": train.precision == "fp16",  # its one scale would make a run skip others' steps
        "peft.method": config.peft.method != "none",
    }
    faults = []
    for key in (key for key, given in refused.items() if given):
        value = short(attrgetter(key)(config))
        faults.append(f"{key}: {value} is not for runs that are trained together; train them one by one")
    return faults


def _differences(configs: Sequence[Config]) -> list[str]:
    first, *others = map(shape_of, configs)
    faults = []
    for section, settings in first.items():
        for key, value in settings.items():
            if different := [own[section][key] for own in others if own[section][key] != value]:
                told = f"is {short(value)} and {short(different[0])}"
                faults.append(f"{section}.{key}: {told}; runs that are trained together have one")
    return faults


def _folders(configs: Sequence[Config]) -> list[str]:
    folders = [config.run_dir for config in configs]
    return [
        f"name: {folders.count(folder)} runs have the folder {folder}"
        for folder in dict.fromkeys(f for f in folders if folders.count(f) > 1)
    ]

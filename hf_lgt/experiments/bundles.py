"""Which runs of an experiment one process trains together, see `hf_lgt.training.stacked_trainer`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_builders import get_task
from hf_lgt.config.schema import Config
from hf_lgt.config.stackable import shape_of, together_faults
from hf_lgt.data.tokenizers import other_tasks
from hf_lgt.experiments.manifest import grouped
from hf_lgt.experiments.plan import PlannedRun, write_config
from hf_lgt.utils.errors import ConfigError

STACKED_FAMILIES = ("llama", "gpt_neox", "bloom", "qwen3", "phi3", "looped_llama")
"""families whose layers `hf_lgt.training.stacking` knows; others are trained one by one"""


@dataclass(frozen=True)
class Bundle:
    """Runs that one process trains, see `hf_lgt.experiments.launch.Job`."""

    runs: tuple[PlannedRun, ...]

    @property
    def unfinished(self) -> list[PlannedRun]:
        """The runs that are still to do."""
        return [run for run in self.runs if not run.finished]

    @property
    def finished(self) -> bool:
        """Whether all are."""
        return not self.unfinished

    @property
    def run_dirs(self) -> list[Path]:
        """Folders of the runs."""
        return [run.run_dir for run in self.runs]

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `launch.FINETUNE` is called with."""
        if len(self.runs) == 1:
            return self.runs[0].arguments
        return ("--config", *(str(run.config_file) for run in self.runs))

    @property
    def log(self) -> str:
        """File name of what it prints: the first run's, which says how many more there are."""
        first = Path(self.runs[0].log)
        more = len(self.runs) - 1
        return f"{first.stem}-and-{more}-more{first.suffix}" if more else first.name

    def write_configs(self) -> None:
        """Write the configs that it is called with."""
        if len(self.runs) > 1:
            for run in self.runs:
                write_config(run.config_file, run.config)


def bundles(runs: Sequence[PlannedRun], most: int) -> list[Bundle]:
    """Put runs together whose models have one shape and vocabulary, in as few bundles as there can be.

    A run of a kind that cannot be trained with others has a bundle of its own.

    Args:
        runs: that are to do.
        most: runs of a bundle; they are divided evenly.

    Raises:
        ConfigError: there may be more than one, and no run is of a kind that can be trained with others.
    """
    groups = grouped(runs, lambda run: _key(run.config))
    faults = {key: together_faults([own[0].config]) for key, own in groups.items()}
    if most > 1 and groups and all(faults.values()):
        told = dict.fromkeys(fault for own in faults.values() for fault in own)
        raise ConfigError([f"--together: {fault}" for fault in told])
    made = []
    for key, own in groups.items():
        alone = faults[key] or not _family_stacks(own[0].config)
        count = len(own) if alone else -(-len(own) // most)
        for index in range(count):
            made.append(Bundle(tuple(own[index * len(own) // count : (index + 1) * len(own) // count])))
    return made


def _family_stacks(config: Config) -> bool:
    """Whether a network from scratch is of a family that is known to; of a checkpoint it turns out later."""
    return config.model.name_or_path is not None or config.model.architecture in STACKED_FAMILIES


def _key(config: Config) -> str:
    """What runs have in common that can be trained together."""
    return json.dumps([shape_of(config), config.to_dict()["data"], _vocabulary(config)], sort_keys=True)


def _vocabulary(config: Config) -> Mapping[str, object]:
    """What a run's vocabulary depends on beside its data section."""
    tasks = [c.task for c in config.mixture]  # in the order in which their tags are numbered
    if config.data.source != "generated":
        return {"tasks": tasks}
    nodes = max(get_task(c.task).nodes(c.options) for c in config.mixture)
    # a checkpoint's tokenizer gets the tags of a run's own tasks only
    return {"tasks": tasks if config.model.name_or_path else other_tasks(tasks), "nodes": nodes}

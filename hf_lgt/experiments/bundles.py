"""Which runs of a sweep or comparison one process trains together, see `hf_lgt.training.stacked_trainer`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from data_builders import get_task
from data_builders.reading import holds_text
from hf_lgt.checkpointing.run_folder import is_finished
from hf_lgt.config.schema import Config
from hf_lgt.config.stackable import shape_of, together_faults
from hf_lgt.data.tokenizers import other_tasks
from hf_lgt.utils import yaml as yaml12
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.errors import ConfigError


class Run(Protocol):
    """A run that may be trained with others."""

    @property
    def config(self) -> Config:
        """The run's."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `recipes/finetune.py` is called with for it alone."""
        ...

    @property
    def log(self) -> str:
        """File name of what it prints."""
        ...


R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class Bundle(Generic[R]):
    """Runs that one process trains, see `hf_lgt.experiments.launch.Job`."""

    runs: tuple[R, ...]
    files: tuple[Path, ...]
    """the config of each"""

    @property
    def unfinished(self) -> list[R]:
        """The runs that are still to do."""
        return [run for run in self.runs if not is_finished(run.config.run_dir)]

    @property
    def finished(self) -> bool:
        """Whether all are."""
        return not self.unfinished

    @property
    def run_dirs(self) -> list[Path]:
        """Folders of the runs."""
        return [run.config.run_dir for run in self.runs]

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `recipes/finetune.py` is called with."""
        return ("--config", *map(str, self.files)) if len(self.runs) > 1 else self.runs[0].arguments

    @property
    def log(self) -> str:
        """File name of what it prints: the first run's, which says how many more there are."""
        first = Path(self.runs[0].log)
        more = len(self.runs) - 1
        return f"{first.stem}-and-{more}-more{first.suffix}" if more else first.name


def bundles(runs: Sequence[R], most: int, file_of: Callable[[R], Path]) -> list[Bundle[R]]:
    """Put runs together whose models have one shape and vocabulary, in as few bundles as there can be.

    Args:
        runs: that are to do.
        most: runs of a bundle; they are shared out evenly.
        file_of: gives the file that holds a run's config.

    Raises:
        ConfigError: there may be more than one, and a run is of a kind that cannot be trained with others.
    """
    groups: dict[str, list[R]] = {}
    for run in runs:
        groups.setdefault(_key(run.config), []).append(run)
    faults = [fault for own in groups.values() for fault in together_faults([own[0].config])]
    if faults and most > 1:
        raise ConfigError([f"--together: {fault}" for fault in dict.fromkeys(faults)])
    made = []
    for own in groups.values():
        count = -(-len(own) // most)
        for index in range(count):
            part = tuple(own[index * len(own) // count : (index + 1) * len(own) // count])
            made.append(Bundle(part, tuple(map(file_of, part))))
    return made


def write_config(file: Path, config: Config) -> None:
    """Write a run's config, settled, unless the file says the same already."""
    text = yaml12.dump(config.to_dict())
    if not holds_text(file, text):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)


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

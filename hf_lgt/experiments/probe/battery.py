"""The battery of ``hf-lgt probe``: families of tasks with fixed lengths, in one file.

Results of the same battery can be compared: name, version and a hash of all that it says stand in each
`probe.json`. A changed copy is another battery.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_builders.corpus.language import LanguageCorpus
from data_builders.registry import TaskError, unknown
from hf_lgt.config.files import merge, read_file
from hf_lgt.config.schema import NAME, short
from hf_lgt.experiments.spec import flat, seed_faults
from hf_lgt.utils.errors import ConfigError

KEYS = ("name", "version", "seeds", "config", "sizes", "families")
LANGUAGE_KEYS = ("family", "train_examples", "test_examples", "target_length", "auxiliary_length",
                 "test_length", "seed")  # fmt: skip
"""keys of a family's ``corpus``, see `data_builders.corpus.language.LanguageCorpus`"""


@dataclass(frozen=True)
class BatteryFamily:
    """A target task with its auxiliaries."""

    name: str
    config: Mapping[str, Any]
    """keys of a run's config, as plain data; those of the whole battery among them"""
    corpus: LanguageCorpus | None
    """rows in English that it is trained on, which the probe writes; None: its tasks are generated"""


@dataclass(frozen=True)
class Size:
    """What models of some size are trained with."""

    below: float | None
    """parameters; None: any number"""
    settings: Mapping[str, Any]
    """``section.key`` -> value"""


@dataclass(frozen=True)
class Battery:
    """What is asked of every model."""

    name: str
    version: int
    seeds: tuple[int, ...]
    families: tuple[BatteryFamily, ...]
    sizes: tuple[Size, ...]
    file: Path
    digest: str
    """twelve hexadecimal digits of all that the file says, its seeds aside"""

    def settings_for(self, parameters: int) -> dict[str, Any]:
        """What a model of so many parameters is trained with, ``section.key`` -> value."""
        for size in self.sizes:
            if size.below is None or parameters < size.below:
                return dict(size.settings)
        return {}


def load_battery(path: str | Path) -> Battery:
    """Read a battery's file.

    Raises:
        ConfigError: with every fault of the file; those of the runs' configs are found when it is planned.
    """
    file = Path(path)
    try:
        data = read_file(file)
    except ConfigError as error:
        raise ConfigError([fault.replace("config file", "--battery:", 1) for fault in error.faults]) from None
    faults = [f"battery {file}: {unknown('key', key, KEYS)}" for key in data if key not in KEYS]
    name, version = data.get("name"), data.get("version")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        faults.append(f"name: {short(name)} must be letters, digits, '.', '_', '-'")
    if type(version) is not int or version < 1:
        faults.append(f"version: {short(version)} must be an integer from 1")
    seeds = data.get("seeds", [0])
    faults += seed_faults(seeds)
    sizes = _sizes(data.get("sizes", []), faults)
    families = _families(data.get("families"), data.get("config", {}), faults)
    if faults:
        raise ConfigError(faults)
    return Battery(
        str(name), version or 1, tuple(seeds), tuple(families), tuple(sizes), file, _digest(data, families)
    )


def _digest(data: Mapping[str, Any], families: Sequence[BatteryFamily]) -> str:
    # a corpus with all its numbers, those that its family gives too
    made = {f.name: [f.config, f.corpus and asdict(f.corpus)] for f in families}
    text = json.dumps([data["name"], data["version"], data.get("sizes", []), made], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _sizes(given: Any, faults: list[str]) -> list[Size]:
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        faults.append(f"sizes: {short(given)} must be a list of mappings, as {{below: 30e6, train: ...}}")
        return []
    sizes = []
    for i, item in enumerate(given):
        below = item.get("below")
        if below is not None and (type(below) not in (int, float) or below <= 0):
            faults.append(f"sizes.{i}.below: {short(below)} must be a number of parameters")
        settings = flat({key: value for key, value in item.items() if key != "below"})
        sizes.append(Size(below, settings))
    return sizes


def _families(given: Any, common: Any, faults: list[str]) -> list[BatteryFamily]:
    if not isinstance(common, dict):
        faults.append(f"config: {short(common)} must hold keys of a run's config")
        return []
    if not isinstance(given, dict) or not given:
        faults.append(f"families: {short(given)} must map names to configs with a mixture")
        return []
    families = []
    for name, item in given.items():
        place = f"families.{name}"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            faults.append(f"families: the name {short(name)} must be letters, digits, '.', '_', '-'")
        elif not isinstance(item, dict) or not isinstance(item.get("mixture"), list):
            faults.append(f"{place}: {short(item)} must be a mapping with a mixture")
        else:
            own = {key: value for key, value in item.items() if key != "corpus"}
            corpus = _corpus(item.get("corpus"), f"{place}.corpus", faults)
            families.append(BatteryFamily(name, merge(copy.deepcopy(common), own), corpus))
    return families


def _corpus(given: Any, place: str, faults: list[str]) -> LanguageCorpus | None:
    if given is None:
        return None
    if not isinstance(given, dict) or "family" not in given:
        faults.append(f"{place}: {short(given)} must be a mapping with a family")
        return None
    told = [f"{place}: {unknown('key', key, LANGUAGE_KEYS)}" for key in given if key not in LANGUAGE_KEYS]
    faults += told
    if told:
        return None
    try:
        return LanguageCorpus(**given)
    except TaskError as error:
        faults += [f"{place}: {fault}" for fault in str(error).split("\n")]
        return None


def chosen(battery: Battery, families: Sequence[str], seeds: Sequence[int]) -> Battery:
    """The battery with some of its families alone, and other seeds; none given: as it is.

    Raises:
        ConfigError: it has no such family.
    """
    names = [family.name for family in battery.families]
    if faults := [f"--families: {unknown('family', name, names)}" for name in families if name not in names]:
        raise ConfigError(faults)
    kept = tuple(f for f in battery.families if not families or f.name in families)
    return dataclasses.replace(battery, families=kept, seeds=tuple(seeds) or battery.seeds)

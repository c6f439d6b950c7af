"""Who may allow that code which comes with a model is run, or that its pickle is read: the user alone.

Consent is what the command line says, or a config that the user names in this command. What is being read (a
run, a checkpoint, a downloaded folder) cannot allow its own code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_lgt.config.files import CONSENT, file_chain, merge, set_key
from hf_lgt.config.schema import ModelConfig, short
from hf_lgt.utils.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Consent:
    """What the user allows; by default no code and no pickle."""

    trust_remote_code: bool = False
    use_safetensors: bool = True

    @classmethod
    def of(cls, model: ModelConfig) -> Consent:
        """The consent in a config that `consent_faults` has passed."""
        return cls(model.trust_remote_code, model.use_safetensors)

    def applied(self, model: ModelConfig) -> ModelConfig:
        """A model's settings with this consent in the place of their own."""
        return dataclasses.replace(model, **dataclasses.asdict(self))

    def overrides(self) -> list[str]:
        """As ``section.key=value``."""
        return [f"model.{key}={str(value).lower()}" for key, value in dataclasses.asdict(self).items()]


def consent_of(file: str | Path | None, overrides: Sequence[str], reading: Path) -> Consent:
    """What the user's own command allows.

    Args:
        file: the config that the user names, None if there is none.
        overrides: ``section.key=value`` of the command line.
        reading: what is read, a run or a model's folder. A config inside it does not count: whoever made
            the folder made that as well.

    Raises:
        ConfigError: the config cannot be read, or says neither true nor false.
    """
    place = reading.resolve()
    data: dict[str, Any] = {}
    for path, own in reversed(file_chain(Path(file)) if file else []):
        if not path.resolve().is_relative_to(place):
            data = merge(data, own)
    for override in overrides:
        set_key(data, override)  # its faults are reported when the whole config is read
    model = data.get("model")
    said = {key: model[key] for key in CONSENT if key in model} if isinstance(model, dict) else {}
    if odd := [key for key, value in said.items() if not isinstance(value, bool)]:
        raise ConfigError([f"model.{key}: {short(said[key])} must be a boolean" for key in odd])
    return Consent(**said)


def run_of(folder: Path) -> Path | None:
    """The run that a model's folder is part of: RUN, RUN/model, RUN/adapter, RUN/checkpoints/step-000500."""
    places = [folder]
    if folder.name in ("model", "adapter"):
        places.append(folder.parent)
    if folder.parent.name == "checkpoints":
        places.append(folder.parent.parent)
    return next((place for place in places if (place / "config.yaml").is_file()), None)


def consent_faults(file: str | Path, overrides: Sequence[str], model: ModelConfig) -> list[str]:
    """Consent in a checked config that comes from the very folder it is given for.

    Args:
        file: the config that the user names.
        overrides: ``section.key=value`` of the command line.
        model: its section, checked.
    """
    asked = Consent.of(model)
    if asked == Consent() or model.name_or_path is None:
        return []
    try:
        folder = Path(model.name_or_path).resolve()
    except (OSError, RuntimeError, ValueError):
        return []  # no path: reported where the checkpoint is looked for
    given = consent_of(file, overrides, run_of(folder) or folder)
    values = {key: (getattr(asked, key), getattr(given, key)) for key in CONSENT}
    return [
        f"model.{key}: {str(value).lower()} is said by a config that comes with the model itself; if you "
        f"trust it, give --model.{key} {str(value).lower()}"
        for key, (value, own) in values.items()
        if value != own
    ]

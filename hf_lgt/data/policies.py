"""How a model's examples differ from the usual: position IDs other than 0, 1, 2, ..., heads by role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hf_lgt.config.schema import HALVES, ModelConfig
from hf_lgt.data.position_ids import Numbering, numbering_of


@dataclass(frozen=True)
class Policies:
    """What batches and test sets of one model follow."""

    numbering: Numbering | None = None
    """gives the position IDs; None: 0, 1, 2, ..."""
    halves: Mapping[str, int] | None = None
    """role -> half of each layer's heads that its examples may use; None: all heads"""

    def half(self, role: str) -> int | None:
        """Which half of the heads the examples of a role may use; None: all heads."""
        return None if self.halves is None else self.halves[role]


USUAL = Policies()


def policies_of(model: ModelConfig, limit: int | None) -> Policies:
    """The policies of a config.

    Args:
        model: of a checked config.
        limit: longest sequence that the model takes, in tokens; None where nothing bounds it.

    Raises:
        ConfigError: see `numbering_of`.
    """
    return Policies(numbering_of(model, limit), HALVES[model.role_heads])

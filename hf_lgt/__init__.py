"""Fine-tune language models and ask whether a related task teaches them to extrapolate in length.

Names are loaded when first used: importing `hf_lgt` loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_lgt.config.load import load_config
    from hf_lgt.config.schema import Config
    from hf_lgt.data.codec import Codec
    from hf_lgt.evaluation.harness import EvaluationOptions, evaluate
    from hf_lgt.evaluation.measures import (
        effective_length,
        gain,
        generalization_gap,
        normalized_gap,
        recovered_fraction,
    )
    from hf_lgt.evaluation.records import EvalRecord
    from hf_lgt.utils.errors import ConfigError
    from hf_lgt.workflows.train import RunResult, train
    from hf_lgt.workflows.train_stacked import train_together

__version__ = "0.1.0"

_HOME = {
    "Codec": "data.codec",
    "Config": "config.schema",
    "ConfigError": "utils.errors",
    "load_config": "config.load",
    "effective_length": "evaluation.measures",
    "gain": "evaluation.measures",
    "generalization_gap": "evaluation.measures",
    "normalized_gap": "evaluation.measures",
    "recovered_fraction": "evaluation.measures",
    "evaluate": "evaluation.harness",
    "EvalRecord": "evaluation.records",
    "EvaluationOptions": "evaluation.harness",
    "RunResult": "workflows.train",
    "train": "workflows.train",
    "train_together": "workflows.train_stacked",
}

__all__ = [
    "Codec",
    "Config",
    "ConfigError",
    "EvalRecord",
    "EvaluationOptions",
    "RunResult",
    "effective_length",
    "evaluate",
    "gain",
    "generalization_gap",
    "load_config",
    "normalized_gap",
    "recovered_fraction",
    "train",
    "train_together",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hf_lgt' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hf_lgt.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

"""Loss on the validation documents: measured, logged, read again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.reading import LARGEST_LOG, read_bytes
from hf_lgt.data.batching import make_pass
from hf_lgt.evaluation.records import LARGEST, RecordError
from hf_lgt.models.forward import answer_loss, inference
from hf_lgt.pretraining.source import block_batch
from hf_lgt.utils.jsonl import append_lines

LOG = "validation.jsonl"


@dataclass(frozen=True)
class ValidationMeasurement:
    """One line of ``validation.jsonl``."""

    step: int
    tokens: int
    """that were trained on"""
    validation_loss: float
    """mean cross entropy, nats a token"""
    bits_per_byte: float
    """the same loss for each byte of the text, which compares models of different tokenizers"""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def validation_loss(
    model: Any,
    tokens: NDArray[np.uint16],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    *,
    length: int,
    batch_size: int,
) -> tuple[float, float]:
    """Mean loss on fixed blocks: (nats a token, bits a byte).

    Args:
        model: a causal language model; the mode that it is in comes back.
        tokens: the stream of validation tokens.
        starts: where the blocks begin, int64 [n].
        sizes: bytes of each token of the vocabulary.
        length: tokens of a block, of which all but the first are predicted.
        batch_size: blocks a forward pass.
    """
    device, nats, predicted, size = next(model.parameters()).device, 0.0, 0, 0
    with inference(model):
        for at in range(0, len(starts), batch_size):
            batch = block_batch(tokens, starts[at : at + batch_size], length)
            nats += float(answer_loss(model, make_pass(batch, np.arange(len(batch.lengths))).to(device)))
            predicted += batch.answer_tokens
            size += int(sizes[batch.ids[:, 1:]].sum())
    return nats / predicted, nats / math.log(2) / max(size, 1)


def append_measurement(run_dir: Path, measured: ValidationMeasurement) -> None:
    """Add a line to the folder's log."""
    append_lines(run_dir / LOG, [measured.to_json()])


def read_measurements(run_dir: Path) -> list[ValidationMeasurement]:
    """All lines of a folder's log; none where nothing was measured yet.

    Raises:
        RecordError: the log cannot be read, or a line is no measurement.
    """
    path = run_dir / LOG
    try:
        lines = read_bytes(path, LARGEST_LOG).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    return [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]


def _parse(line: bytes, where: str) -> ValidationMeasurement:
    try:
        measured = ValidationMeasurement(**json.loads(line))
        counts, losses = (measured.step, measured.tokens), (measured.validation_loss, measured.bits_per_byte)
        fine = all(type(n) is int and 0 <= n <= LARGEST for n in counts) and all(map(math.isfinite, losses))
    except (ValueError, TypeError, OverflowError, RecursionError):
        fine = False
    if not fine:
        raise RecordError(f"{where} is not a measurement: {line[:60].decode('utf-8', 'replace')!a}")
    return measured

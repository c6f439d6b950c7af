"""A corpus as a folder of Parquet files and a card, which the Hub and `load_dataset` take as it is."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_builders.corpus import card
from data_builders.corpus.build import FEATURES, build, check_processes
from data_builders.corpus.marker import MARKER, read_marker, write_marker
from data_builders.corpus.plan import MIXTURE, CorpusPlan
from data_builders.mixture import Mixture
from data_builders.registry import TaskError
from data_builders.sampling import CORPUS_CHUNK

__all__ = ["MARKER", "SHARD_BYTES", "read_marker", "write_corpus", "write_plan"]

SHARD_BYTES = 500_000_000
"""of a shard in memory; its Parquet file is smaller"""
TEXTS = ("task", "role", "prompt", "target")


def write_corpus(
    folder: str | Path,
    mixture: Mixture,
    train_examples: int,
    test_examples: int,
    test_lengths: Sequence[int],
    seed: int = 0,
    num_proc: int | None = None,
    *,
    test_seed: int = 1234,
    licence: str = "apache-2.0",
    command: str | None = None,
) -> dict[str, dict[str, int]]:
    """Write a corpus as a folder that the Hub and `datasets.load_dataset` take.

    It holds Parquet files of the mixture and of every task by itself, a README.md that describes them,
    and `MARKER`. Equal arguments give equal bytes, whatever `num_proc`.

    Args:
        folder: an empty folder.
        mixture: see `build_corpus`, as for the arguments up to `test_seed`.
        train_examples: see there.
        test_examples: see there.
        test_lengths: see there.
        seed: see there.
        num_proc: see there.
        test_seed: see there.
        licence: identifier as the Hub has it.
        command: shell command that writes this corpus again, for the README; None: shows the call.

    Returns:
        Rows of each configuration and split.

    Raises:
        TaskError: an argument is wrong.
    """
    plan = CorpusPlan(mixture, train_examples, test_examples, test_lengths, seed, test_seed)
    return write_plan(folder, plan, num_proc=num_proc, licence=licence, command=command)


def write_plan(
    folder: str | Path,
    plan: CorpusPlan,
    *,
    num_proc: int | None = None,
    licence: str = "apache-2.0",
    command: str | None = None,
) -> dict[str, dict[str, int]]:
    """Write the corpus of a plan, see `write_corpus`."""
    check_processes(num_proc)
    folder = Path(folder)
    if not folder.is_dir() or any(folder.iterdir()):
        raise TaskError(f"folder {str(folder)!r} must be an empty folder; make one, or name another")
    # taken before the work: code that is edited meanwhile is not what drew the rows
    fingerprint = plan.fingerprint()
    facts = card.Facts()
    for name in plan.configurations:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".", ignore_cleanup_errors=True) as cache:
            splits = build(plan, name, num_proc=num_proc, cache_dir=cache)
            facts.info[name] = _write_parquet(splits, folder / name)
            if name == MIXTURE:
                _count(splits["test"].data.table, facts)
            else:
                facts.examples[name] = _example(splits)
            del splits
    rows = {name: {s: i.num_examples for s, i in info.splits.items()} for name, info in facts.info.items()}
    (folder / "README.md").write_text(card.write(plan, facts, licence, command), encoding="utf-8")
    write_marker(folder, fingerprint, rows, plan.settings())
    return rows


def _write_parquet(splits: datasets.DatasetDict, folder: Path) -> datasets.DatasetInfo:
    """Write the splits of a configuration; gives their sizes and columns for the card."""
    folder.mkdir()
    info = datasets.DatasetInfo(features=FEATURES, splits=datasets.SplitDict(), download_size=0)
    for split, rows in splits.items():
        size = _bytes_of(rows.data.table)
        shards = max(1, -(-size // SHARD_BYTES))
        for k in range(shards):
            path = folder / f"{split}-{k:05d}-of-{shards:05d}.parquet"
            content = io.BytesIO()
            rows.shard(shards, k, contiguous=True).to_parquet(content)
            # written by us: on a full disk the library would abort the whole process
            path.write_bytes(content.getbuffer())
            info.download_size += path.stat().st_size
        info.splits[split] = datasets.SplitInfo(split, num_bytes=size, num_examples=len(rows))
    info.dataset_size = sum(split.num_bytes for split in info.splits.values())
    return info


def _bytes_of(table: pa.Table) -> int:
    """Bytes of the values in memory, which do not depend on how the rows are cut up."""
    texts = sum(pc.sum(pc.binary_length(table[name])).as_py() or 0 for name in TEXTS)
    marks = pc.sum(pc.list_value_length(table["loss_mask"])).as_py() or 0
    return int(texts) + 4 * (len(TEXTS) + 2) * len(table) + -(-marks // 8)


def _count(test: pa.Table, facts: card.Facts) -> None:
    """Count the test rows of each task and length."""
    counted = test.select(["task", "length"]).group_by(["task", "length"]).aggregate([([], "count_all")])
    facts.test_rows = {(row["task"], row["length"]): row["count_all"] for row in counted.to_pylist()}


def _example(splits: datasets.DatasetDict) -> tuple[str, str] | None:
    """Prompt and target of a task that are neither the shortest nor long, if it has rows at all."""
    for split in ("test", "train"):
        table = splits[split].data.table.slice(0, 4 * CORPUS_CHUNK)
        if len(table):
            distance = np.abs(np.asarray(table["length"]) - 4)
            row = table.slice(int(np.argmin(distance)), 1).to_pylist()[0]
            return row["prompt"], row["target"]
    return None

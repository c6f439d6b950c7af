"""Tasks of lm-evaluation-harness for the test rows of a written corpus: YAML files, no code.

One file for each task and length, so that the harness tells exact match by length, a group for each
task and one for the whole corpus. Tried with lm_eval 0.4.13; `recipes/lm_eval/README.md` shows their use.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from data_builders.corpus.plan import CorpusPlan
from data_builders.mixture import Component
from data_builders.reading import UnreadableFileError, read_text
from data_builders.registry import TaskError
from data_builders.sampling import stream
from data_builders.symbols import SYMBOL_PATTERN

_log = logging.getLogger(__name__)

COMMON = "_common.yaml"
"""what all tasks of a folder share; it names no task, so the harness does not list it"""
HEAD = "# Written by hf_lgt for lm-evaluation-harness; the checksum tells whether it was edited: "
METRIC = "exact_match"

Cell = tuple[str, int]
"""task and length"""


@dataclass(frozen=True)
class _Rows:
    """The test rows of a task."""

    longest: Mapping[int, int]
    """length -> most symbols of a target; the lengths are those that have rows"""
    whole: bool
    """whether every row counts its whole target and the end"""


def write_tasks(
    folder: str | Path,
    plan: CorpusPlan,
    dataset_path: str,
    *,
    corpus: str | Path,
    name: str,
    tags: bool,
    revision: str | None = None,
) -> dict[str, Cell]:
    """Write the harness's tasks for the test rows of a corpus.

    A task whose rows count only a part of their answer is left out: the harness compares whole answers.

    Args:
        folder: an empty folder.
        plan: what the corpus was made of.
        dataset_path: where the harness finds the corpus: an id on the Hub, or a folder; a relative one
            is relative to where the harness starts.
        corpus: the folder of the written corpus, whose test rows say which tasks there are and how long
            their answers get.
        name: begins the name of every task, ``<name>_<task>_length_<n>``; what is neither letter,
            digit, ``_`` nor ``-`` becomes ``_``.
        tags: whether the model was trained with its task's tag before each prompt.
        revision: branch of the Hub repository, None for the main one.

    Returns:
        What each of the harness's tasks evaluates. The groups are ``<name>`` and ``<name>_<task>``.

    Raises:
        TaskError: the folder is not empty, the corpus is none of this plan, no task is left, or two
            tasks or groups would have one name.
    """
    folder, corpus = Path(folder), Path(corpus)
    if not folder.is_dir() or any(folder.iterdir()):
        raise TaskError(f"folder {str(folder)!r} must be an empty folder; make one, or name another")
    prefix = safe_name(name)
    files: dict[str, dict[str, Any]] = {}
    cells: dict[str, Cell] = {}

    def add(title: str, settings: dict[str, Any]) -> None:
        # files are distinguished as a file system does that takes A for a
        if title.casefold() in map(str.casefold, files):
            raise TaskError(f"two tasks or groups would be called {title!r}; give the task another name")
        files[title] = settings

    for component in plan.mixture.components:
        rows, members = _read(corpus, component.task), []
        if not rows.whole:
            _log.warning(
                "%s: left out, as it counts only a part of its answer, the harness all of it", component.task
            )
            continue
        for length, longest in rows.longest.items():
            title = f"{prefix}_{component.task}_length_{length}"
            add(title, _task(title, component.task, length, longest, revision))
            cells[title] = (component.task, length)
            members.append(title)
        if members:
            title = f"{prefix}_{component.task}"
            add(title, _group(title, members))
    if not cells:
        raise TaskError(NOTHING)
    add(prefix, _group(prefix, [f"{prefix}_{task}" for task in dict.fromkeys(t for t, _ in cells.values())]))
    _write(folder / COMMON, _common(dataset_path, tags))
    for title, settings in files.items():
        _write(folder / f"{title}.yaml", settings)
    return cells


NOTHING = (
    "no task of the corpus has test rows whose whole answer counts, and lm-evaluation-harness compares "
    "whole answers"
)


def check_plan(plan: CorpusPlan) -> None:
    """Find out, before a corpus is built, whether `write_tasks` would have a task to write.

    Raises:
        TaskError: each task counts only a part of its answer.
    """
    if not any(map(_counts_all, plan.mixture.components)):
        raise TaskError(NOTHING)


def is_replaceable(folder: Path) -> bool:
    """Whether a folder holds nothing but files that `write_tasks` wrote, as it wrote them."""
    return folder.is_dir() and all(map(_is_ours, folder.iterdir()))


def _counts_all(component: Component) -> bool:
    """Whether an example counts its whole target and the end; one that counts the end counts all of it."""
    sample = component.definition.sample(stream(0, "check"), component.lengths[0], 1, **component.options)
    return sample.scores_eos


def safe_name(name: str) -> str:
    """A name that neither the harness, which takes commas and wildcards, nor a file system misreads.

    Raises:
        TaskError: nothing is left of it.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name).lstrip("-")
    if not re.search("[A-Za-z0-9]", safe):
        raise TaskError(f"name {name!r} has neither letter nor digit; choose one that has")
    return safe


def _read(corpus: Path, task: str) -> _Rows:
    """The test rows of a task in a written corpus."""
    shards = sorted((corpus / task).glob("test-*.parquet"))
    if not shards:
        raise TaskError(f"folder {str(corpus)!r} has no test rows of {task}; write_corpus makes them")
    longest: dict[int, int] = {}
    whole = True
    for shard in shards:
        table = pq.read_table(shard, columns=["length", "target", "loss_mask"])
        whole = whole and table["loss_mask"].null_count == len(table)
        symbols = pc.count_substring_regex(table["target"], SYMBOL_PATTERN)
        counted = table.select(["length"]).append_column("symbols", symbols)
        for row in counted.group_by("length").aggregate([("symbols", "max")]).to_pylist():
            longest[row["length"]] = max(longest.get(row["length"], 0), row["symbols_max"])
    return _Rows(dict(sorted(longest.items())), whole)


def _common(dataset_path: str, tags: bool) -> dict[str, Any]:
    return {
        "dataset_path": dataset_path,
        "test_split": "test",
        "output_type": "generate_until",
        "num_fewshot": 0,
        # BOS comes from the tokenizer
        "doc_to_text": "<{{task}}>{{prompt}}" if tags else "prompt",
        # the column itself: of a template's result the harness would read "[12]" as a list
        "doc_to_target": "target",
        "target_delimiter": "",
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def _task(title: str, task: str, length: int, longest: int, revision: str | None) -> dict[str, Any]:
    return {
        "include": COMMON,
        "task": title,
        "dataset_name": task,
        "dataset_kwargs": {
            # without data_files a split that has no such row, as train beyond its lengths, stops the load
            "data_files": {"test": f"{task}/test-*"},
            "filters": [["length", "==", length]],
            **({} if revision is None else {"revision": revision}),
        },
        "generation_kwargs": {
            # EOS alone ends an answer; without this key a blank line would too
            "until": [],
            "do_sample": False,
            # and EOS: what follows the right answer must not be cut off there and count. No more,
            # as the harness cuts the prompt of a model whose positions then do not suffice.
            "max_gen_toks": longest + 1,
        },
    }


def _group(title: str, members: list[str]) -> dict[str, Any]:
    # every length counts the same, though short ones have fewer rows, as in our own means
    mean = {"metric": METRIC, "aggregation": "mean", "weight_by_size": False}
    return {
        "group": title,
        "task": members,
        "aggregate_metric_list": [mean],
        "metadata": {"version": 1.0},
    }


def _write(path: Path, settings: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(settings), sort_keys=False, width=100)
    path.write_text(f"{HEAD}{_checksum(text)}\n{text}", encoding="utf-8")


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        head, _, text = read_text(path).partition("\n")
    except UnreadableFileError:
        return False
    return head == f"{HEAD}{_checksum(text)}"


def _checksum(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

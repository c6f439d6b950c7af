"""A corpus of a family of tasks in natural language, see `data_builders.language`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_builders import code_fingerprint as code
from data_builders.corpus.marker import write_marker
from data_builders.language import FAMILIES, TextFamily, TextTask
from data_builders.registry import TaskError, unknown
from data_builders.sampling import stream
from data_builders.texts import fenced

if TYPE_CHECKING:
    from datasets import DatasetDict

HELD_OUT = 2
"""of the lists of a length at most one in so many is kept from training; no float holds all counts"""


@dataclass(frozen=True)
class LanguageCorpus:
    """What a corpus is made of; a length that is not given is the family's.

    Raises:
        TaskError: there is no such family, or a number is out of its range; the message names every one.
    """

    family: str
    train_examples: int = 40_000
    """rows of the train split, as many of each task"""
    test_examples: int = 256
    """test rows of each task and length, fewer where there are not so many lists"""
    target_length: int | None = None
    """longest training example of the target"""
    auxiliary_length: int | None = None
    """the same of the other tasks"""
    test_length: int | None = None
    """longest test example"""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise TaskError(unknown("family", self.family, FAMILIES))
        made = FAMILIES[self.family]
        for name, usual in zip(
            ("target_length", "auxiliary_length", "test_length"), made.lengths, strict=True
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual)
        bounds = {
            "train_examples": (1, 10**7), "test_examples": (1, 10**5), "target_length": (1, made.pool),
            "auxiliary_length": (1, made.pool), "test_length": (1, made.pool), "seed": (0, 2**63 - 1),
        }  # fmt: skip
        faults = [
            f"{name} is {value!r}; it must be an integer from {low} to {high}"
            for name, (low, high) in bounds.items()
            if type(value := getattr(self, name)) is not int or not low <= value <= high
        ]
        if faults:
            raise TaskError("\n".join(faults))

    @property
    def made_of(self) -> TextFamily:
        """The family."""
        return FAMILIES[self.family]

    def longest(self, task: str) -> int:
        """Longest training example of a task."""
        own = self.made_of.tasks[task].role == "target"
        return int((self.target_length if own else self.auxiliary_length) or 0)

    def fingerprint(self) -> str:
        """Changes with every setting and with the code that draws, see `data_builders.code_fingerprint`."""
        seen = code.package(["corpus/language.py", "language.py", "nouns.py", "sampling.py"])
        return code.fingerprint(asdict(self), {"numpy": np.__version__, **seen})


def build_language(plan: LanguageCorpus) -> DatasetDict:
    """The corpus with the splits train and test, in the columns of `hf_lgt`'s other corpora.

    No prompt that is tested is trained on.
    """
    from datasets import Dataset, DatasetDict

    from data_builders.corpus.build import FEATURES

    tested = list(_test_rows(plan))
    trained = list(_train_rows(plan, {row["prompt"] for row in tested}))
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {name: [row[name] for row in rows] for name in FEATURES}, features=FEATURES
            )
            for split, rows in (("train", trained), ("test", tested))
        }
    )


def _row(plan: LanguageCorpus, name: str, task: TextTask, n: int, rng: np.random.Generator) -> dict[str, Any]:
    prompt, answer = task.write(plan.made_of.draw(rng, n), rng)
    role = "target" if task.role == "target" else "auxiliary"
    return {"task": name, "role": role, "length": n, "prompt": prompt, "target": answer, "loss_mask": None}


def _test_rows(plan: LanguageCorpus) -> Iterator[dict[str, Any]]:
    for name, task in plan.made_of.tasks.items():
        for n in range(1, int(plan.test_length or 0) + 1):
            wanted = min(plan.test_examples, max(1, plan.made_of.count(n) // HELD_OUT))
            rng = stream(plan.seed, "language", "test", name, n)
            found: dict[str, dict[str, Any]] = {}
            while len(found) < wanted:
                row = _row(plan, name, task, n, rng)
                found.setdefault(row["prompt"], row)
            yield from found.values()


def _train_rows(plan: LanguageCorpus, held_out: set[str]) -> Iterator[dict[str, Any]]:
    rng, tasks = stream(plan.seed, "language", "train"), list(plan.made_of.tasks.items())
    for i in range(plan.train_examples):
        name, task = tasks[i % len(tasks)]
        n = int(rng.integers(1, plan.longest(name) + 1))
        while (row := _row(plan, name, task, n, rng))["prompt"] in held_out:
            pass
        yield row


def write_language(folder: Path, plan: LanguageCorpus, command: str) -> dict[str, int]:
    """Write the corpus into an empty folder, as the Hub and `load_dataset` take it.

    Args:
        folder: an empty folder.
        plan: what it is made of.
        command: shell command that writes it again, for the README.

    Returns:
        Rows of each split.
    """
    # taken before the work: code that is edited meanwhile is not what drew the rows
    fingerprint = plan.fingerprint()
    splits = build_language(plan)
    for name, rows in splits.items():
        rows.to_parquet(folder / f"data/{name}-00000-of-00001.parquet")
    counts = {name: len(rows) for name, rows in splits.items()}
    (folder / "README.md").write_text(_card(plan, splits, command), encoding="utf-8")
    write_marker(folder, fingerprint, {"default": counts}, asdict(plan))
    return counts


def _card(plan: LanguageCorpus, splits: Any, command: str) -> str:
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        license="apache-2.0",
        language="en",
        task_categories=["text-generation"],
        tags=["hf_lgt", "length-generalization"],
        pretty_name=plan.made_of.title,
    )
    files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(data)
    sizes = SplitDict()
    for name, rows in splits.items():
        sizes[name] = SplitInfo(name, num_bytes=rows.data.nbytes, num_examples=len(rows))
    info = DatasetInfo(features=splits["train"].features, splits=sizes)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    return _CARD.format(
        metadata=data.to_yaml(),
        title=plan.made_of.title,
        unit=plan.made_of.unit,
        tasks="\n\n".join(_task_lines(plan)),
        train=len(splits["train"]),
        test=len(splits["test"]),
        plan=plan,
        command=fenced(command, "bash"),
    )


def _task_lines(plan: LanguageCorpus) -> Iterator[str]:
    for name, task in plan.made_of.tasks.items():
        n = min(4, plan.longest(name))
        row = _row(plan, name, task, n, stream(plan.seed, "language", "shown"))
        told = f"`{name}` ({task.role}, 1 to {plan.longest(name)} {plan.made_of.unit} in the train split):"
        yield f"{told}\n\n{fenced(row['prompt'] + row['target'], 'text')}"


_CARD = """---
{metadata}
---

# {title}

English prompts about a list of different items; can a model answer the target's for lists longer than it was
trained on, and do auxiliary tasks on longer lists help? Made by `hf_lgt`; every row is generated.

{tasks}

No prompt of the test split occurs in the train split.

| split | rows | lists of |
|---|---|---|
| train | {train} | 1 to {plan.target_length} {unit} (target), 1 to {plan.auxiliary_length} (other tasks) |
| test | {test} | 1 to {plan.test_length} {unit}, at most {plan.test_examples} rows a task and length |

Columns: `task`, `role`, `length` (in {unit}), `prompt`, `target`, `loss_mask` (null: all of the target
counts).

## How it was made

Seed {plan.seed}:

{command}

Licence: Apache-2.0. The question is that of [Extrapolation by Association: Length Generalization Transfer
in Transformers](https://arxiv.org/abs/2506.09251) (NeurIPS 2025).
"""

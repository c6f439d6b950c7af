"""A small natural-language corpus: English sentences that ask to rewrite a list of words.

Three kinds of question about words that have an opposite; length is the number of words in the list:

- ``reversed_opposites`` (the target): the opposite of each word, last word first;
- ``opposites`` and ``reversed`` (the auxiliaries): one of the two steps.

It stands for a user's own data: its columns have names of their own (question, answer, items, kind), it
uses none of the registered tasks, and a training config maps the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_builders import code_fingerprint as code
from data_builders.corpus.marker import write_marker
from data_builders.registry import TaskError
from data_builders.sampling import stream

if TYPE_CHECKING:
    from datasets import DatasetDict

PAIRS = (
    ("hot", "cold"), ("up", "down"), ("wet", "dry"), ("big", "small"), ("fast", "slow"), ("old", "new"),
    ("open", "closed"), ("light", "dark"), ("full", "empty"), ("early", "late"), ("high", "low"),
    ("loud", "quiet"),
)  # fmt: skip
"""words and their opposites"""

QUESTIONS = {
    "reversed_opposites": (
        "Replace each word by its opposite and begin with the last one: {}.",
        "Write the opposites of these words, in reverse order: {}.",
        "Going from the last word to the first, name the opposite of each: {}.",
    ),
    "opposites": (
        "Replace each word by its opposite: {}.",
        "Write the opposites of these words, in the same order: {}.",
        "Going from the first word to the last, name the opposite of each: {}.",
    ),
    "reversed": (
        "Copy these words and begin with the last one: {}.",
        "Write these words in reverse order: {}.",
        "Going from the last word to the first, name each: {}.",
    ),
}
"""kind -> the ways in which it is asked"""

HELD_OUT = 0.5
"""largest share of the lists of a kind and length that is kept from training"""


@dataclass(frozen=True)
class WordLists:
    """What the corpus is made of.

    Raises:
        TaskError: a number is out of its range; the message names every one.
    """

    train_examples: int = 200_000
    """rows of the train split, a third of each kind"""
    test_examples: int = 256
    """test rows of each kind and length, fewer where there are not so many lists"""
    target_length: int = 8
    """longest list of the target that is trained on"""
    auxiliary_length: int = 16
    """the same of the auxiliaries"""
    test_length: int = 20
    """longest list of the test split"""
    pairs: int = 4
    """pairs of opposites in use, from the beginning of `PAIRS`"""
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "train_examples": (1, 10**8), "test_examples": (1, 10**6), "target_length": (1, 1000),
            "auxiliary_length": (1, 1000), "test_length": (1, 1000), "pairs": (1, len(PAIRS)),
            "seed": (0, 2**63 - 1),
        }  # fmt: skip
        faults = [
            f"{name} is {value!r}; it must be an integer from {low} to {high}"
            for name, (low, high) in bounds.items()
            if type(value := getattr(self, name)) is not int or not low <= value <= high
        ]
        if faults:
            raise TaskError("\n".join(faults))

    @property
    def words(self) -> list[str]:
        """The words in use, opposites side by side."""
        return [word for pair in PAIRS[: self.pairs] for word in pair]

    def longest(self, kind: str) -> int:
        """Longest list of a kind that is trained on."""
        return self.target_length if kind == "reversed_opposites" else self.auxiliary_length

    def fingerprint(self) -> str:
        """Changes with every setting and with the code that draws, see `data_builders.code_fingerprint`."""
        seen = code.package(["corpus/word_lists.py", "sampling.py"])
        return code.fingerprint(asdict(self), {"numpy": np.__version__, **seen})


def answer(kind: str, words: Sequence[str]) -> str:
    """The right answer to a question.

    >>> answer("reversed_opposites", ["hot", "up", "wet"])
    'dry down cold'

    Raises:
        KeyError: a word has no opposite here.
    """
    opposites = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
    written = [opposites[word] for word in words] if "opposites" in kind else list(words)
    return " ".join(written[::-1] if kind.startswith("reversed") else written)


def build_word_lists(plan: WordLists) -> DatasetDict:
    """The corpus with the splits train and test.

    No list that a kind is tested with is trained on with that kind, however the question is put.

    Returns:
        Columns question str, answer str, items int32, kind str.
    """
    from datasets import Dataset, DatasetDict, Features, Value

    text = Value("string")
    features = Features({"question": text, "answer": text, "items": Value("int32"), "kind": text})
    test = {
        (kind, n): _test_lists(plan, kind, n) for kind in QUESTIONS for n in range(1, plan.test_length + 1)
    }
    held_out = {(kind, row.tobytes()) for (kind, _), rows in test.items() for row in rows}
    tested = [_row(plan, kind, row, i) for (kind, _), rows in test.items() for i, row in enumerate(rows)]
    trained = list(_train_rows(plan, held_out))
    return DatasetDict(
        {
            split: Dataset.from_dict(_columns(rows), features=features)
            for split, rows in (("train", trained), ("test", tested))
        }
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in ("question", "answer", "items", "kind")}


def _row(plan: WordLists, kind: str, picks: NDArray[np.int16], way: int) -> dict[str, Any]:
    """One example; `picks` are places in the list of words, `way` chooses how the question is put."""
    words = [plan.words[k] for k in picks]
    ways = QUESTIONS[kind]
    question = ways[way % len(ways)].format(" ".join(words))
    return {"question": question, "answer": answer(kind, words), "items": len(words), "kind": kind}


def _test_lists(plan: WordLists, kind: str, length: int) -> list[NDArray[np.int16]]:
    """Different lists, at most `HELD_OUT` of those that there are."""
    count = len(plan.words)
    every = count**length if length < 20 else 2**62
    wanted = min(plan.test_examples, max(1, int(every * HELD_OUT)))
    rng = stream(plan.seed, "word lists", "test", kind, length)
    found: dict[bytes, NDArray[np.int16]] = {}
    while len(found) < wanted:
        for row in rng.integers(0, count, size=(wanted, length), dtype=np.int16):
            found.setdefault(row.tobytes(), row)
    return list(found.values())[:wanted]


def _train_rows(plan: WordLists, held_out: set[tuple[str, bytes]]) -> Any:
    rng, kinds = stream(plan.seed, "word lists", "train"), list(QUESTIONS)
    for i in range(plan.train_examples):
        kind = kinds[i % len(kinds)]
        length = int(rng.integers(1, plan.longest(kind) + 1))
        while True:
            picks = rng.integers(0, len(plan.words), size=length, dtype=np.int16)
            if (kind, picks.tobytes()) not in held_out:
                break
        yield _row(plan, kind, picks, int(rng.integers(3)))


def write_word_lists(folder: Path, plan: WordLists, command: str) -> dict[str, int]:
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
    splits = build_word_lists(plan)
    for name, rows in splits.items():
        rows.to_parquet(folder / f"data/{name}-00000-of-00001.parquet")
    counts = {name: len(rows) for name, rows in splits.items()}
    (folder / "README.md").write_text(_card(plan, splits, command), encoding="utf-8")
    write_marker(folder, fingerprint, {"default": counts}, asdict(plan))
    return counts


def _card(plan: WordLists, splits: Any, command: str) -> str:
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        license="apache-2.0",
        language="en",
        task_categories=["text-generation"],
        tags=["hf_lgt", "length-generalization"],
        pretty_name="Word lists",
    )
    files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(data)
    sizes = SplitDict()
    for name, rows in splits.items():
        sizes[name] = SplitInfo(name, num_bytes=rows.data.nbytes, num_examples=len(rows))
    info = DatasetInfo(features=splits["train"].features, splits=sizes)
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    kinds = []
    for kind, ways in QUESTIONS.items():
        role = "target" if kind == "reversed_opposites" else "auxiliary"
        shown = plan.words[: 2 * min(3, plan.pairs) : 2]
        kinds.append(
            f"- `{kind}` ({role}, lists of 1 to {plan.longest(kind)} words in the train split): "
            f"{ways[0].format(' '.join(shown))} → {answer(kind, shown)}"
        )
    return _CARD.format(
        metadata=data.to_yaml(),
        kinds="\n".join(kinds),
        words=", ".join(f"{a}/{b}" for a, b in PAIRS[: plan.pairs]),
        train=len(splits["train"]),
        test=len(splits["test"]),
        plan=plan,
        command=command,
    )


_CARD = """---
{metadata}
---

# Word lists

English questions about a list of words; can a model answer them for lists longer than it was trained on,
and do related questions about longer lists help? Made by `hf_lgt`; every row is generated.

{kinds}

Words and their opposites: {words}. Each kind is asked in three ways. No list that a kind is tested with
occurs in the train split with that kind.

| split | rows | lists of |
|---|---|---|
| train | {train} | 1 to {plan.target_length} (target), 1 to {plan.auxiliary_length} words (auxiliaries) |
| test | {test} | 1 to {plan.test_length} words, at most {plan.test_examples} rows a kind and length |

Columns: `question`, `answer`, `items` (words in the list: the length), `kind`.

## How it was made

Seed {plan.seed}:

```
{command}
```

Licence: Apache-2.0. The question is that of [Extrapolation by Association: Length Generalization Transfer
in Transformers](https://arxiv.org/abs/2506.09251) (NeurIPS 2025).
"""

"""The README.md of a corpus: metadata that the Hub reads, and what a reader needs to know.

Whatever comes from a user (names, options, summaries, the command) is quoted: it can neither end the
metadata nor open Markdown or HTML of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from datasets import DatasetInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, DatasetCardData

from data_builders.corpus.plan import MIXTURE, CorpusPlan
from data_builders.mixture import Component
from data_builders.redaction import holds_secret, redact
from data_builders.texts import begun, code, escaped, fenced, line

TITLE = "Length-generalization corpus"

CITATION = """\
@inproceedings{cai2025extrapolation,
  title     = {Extrapolation by Association: Length Generalization Transfer in Transformers},
  author    = {Cai, Ziyang and Lee, Nayoung and Schwarzschild, Avi and Oymak, Samet and
               Papailiopoulos, Dimitris},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2025},
  eprint    = {2506.09251},
  archivePrefix = {arXiv},
}"""

COLUMNS = """\
| column | type | meaning |
|---|---|---|
| `task` | string | the task, which is also the configuration that holds its rows alone |
| `role` | string | `target`: the task that should extrapolate; `auxiliary`: one that may help it |
| `length` | int32 | length of the example, in the task's own unit (see above) |
| `prompt` | string | what the model is given |
| `target` | string | what it must write, and then end the sequence |
| `loss_mask` | list of bool | which symbols of the target count; null: all of them and the end of the sequence; given: exactly the marked ones, not the end. A symbol is one character, or a maze node such as `[12]` |
"""  # noqa: E501


@dataclass
class Facts:
    """What was written."""

    info: dict[str, DatasetInfo] = field(default_factory=dict)
    """features and sizes of each configuration"""
    test_rows: dict[tuple[str, int], int] = field(default_factory=dict)
    """rows of the test split, by task and length"""
    examples: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    """prompt and target of each task"""


def write(plan: CorpusPlan, facts: Facts, licence: str, command: str | None) -> str:
    """Text of the README.md.

    Args:
        plan: what the corpus is made of.
        facts: what was written.
        licence: identifier as the Hub has it.
        command: shell command that writes the corpus again; None: the call of `write_corpus` is shown.
    """
    body = "\n\n".join(
        [
            f"# {TITLE}",
            _introduction(plan),
            "## Tasks\n\n" + "\n\n".join(_task(c, facts.examples[c.task]) for c in plan.mixture.components),
            "## Rows\n\n" + _splits(facts),
            "## Test rows\n\n" + _test_rows(plan, facts),
            "## Columns\n\n" + COLUMNS.rstrip(),
            "## How to load it\n\n" + _loading(plan),
            "## How it was made\n\n" + _making(plan, command),
            f"## Licence\n\n{_code(licence)}",
            "## Citation\n\nThe tasks and the question are those of\n\n" + fenced(CITATION, "bibtex"),
        ]
    )
    metadata = _metadata(plan, facts, licence)
    return str(DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}\n"))


def _metadata(plan: CorpusPlan, facts: Facts, licence: str) -> DatasetCardData:
    rows = sum(split.num_examples for split in facts.info[MIXTURE].splits.values())
    data = DatasetCardData(
        license=licence,
        task_categories=["text-generation"],
        tags=["hf_lgt", "length-generalization"],
        size_categories=[_size_category(rows)],
        pretty_name=TITLE,
    )
    configs = {
        name: {
            "data_files": [
                {"split": split, "path": f"{name}/{split}-*"} for split in facts.info[name].splits
            ],
            **({"default": True} if name == MIXTURE else {}),
        }
        for name in plan.configurations
    }
    MetadataConfigs(configs).to_dataset_card_data(data)
    DatasetInfosDict(facts.info).to_dataset_card_data(data)
    return data


def _size_category(rows: int) -> str:
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    k = sum(rows >= 1000 * 10**i for i in range(len(steps)))
    return "n<1K" if k == 0 else f"n>{steps[-1]}" if k == len(steps) else f"{steps[k - 1]}<n<{steps[k]}"


def _introduction(plan: CorpusPlan) -> str:
    targets = ", ".join(_code(c.task) for c in plan.mixture.with_role("target"))
    others = ", ".join(_code(c.task) for c in plan.mixture.with_role("auxiliary"))
    together = f", trained together with {others}" if others else ""
    return (
        f"Synthetic examples to measure length generalization of {targets}{together}. The test split has "
        f"lengths from {min(plan.test_lengths)} to {max(plan.test_lengths)}, the train split those given for "
        "each task below. Every row was generated; none is taken from a person's text."
    )


def _task(component: Component, example: tuple[str, str] | None) -> str:
    task = component.definition
    low, high = component.lengths
    options = ", ".join(
        f"{_code(name)} = {_code(json.dumps(value))} ({_plain(task.options[name].doc)})"
        for name, value in task.resolve(component.options).items()
    )
    lines = [
        f"### {_code(task.name)} ({component.role})",
        "",
        _plain(task.summary),
        "",
        f"- training lengths {low} to {high}, in {_plain(task.length_unit)}",
        f"- weight {component.weight:g}",
        f"- options: {options or 'none'}",
    ]
    if example:
        lines += ["", "An example, prompt and target:", "", fenced(f"{example[0]} -> {example[1]}", "text")]
    return "\n".join(lines)


def _splits(facts: Facts) -> str:
    rows = [
        [_code(name), *(f"{info.splits[split].num_examples}" for split in ("train", "test"))]
        for name, info in facts.info.items()
    ]
    note = (
        "Each task's configuration holds exactly the mixture's rows of that task, in the same order. "
        "Task and length of a training row are drawn independently: tasks by weight, lengths uniformly. "
        "A training prompt may occur more than once."
    )
    return _table(["configuration", "train", "test"], rows) + "\n\n" + note


def _test_rows(plan: CorpusPlan, facts: Facts) -> str:
    components = plan.mixture.components
    has = {c.task: set(plan.lengths_of(c)) for c in components}
    rows = [
        [str(n), *(str(facts.test_rows.get((c.task, n), 0)) if n in has[c.task] else "-" for c in components)]
        for n in plan.test_lengths
        if any(n in lengths for lengths in has.values())
    ]
    parts = [
        "No training row has a prompt that is in the test split of its task. "
        f"{plan.test_examples} test rows were asked for each task and length.",
        _table(["length", *(_code(c.task) for c in components)], rows),
    ]
    if fewer := [line for c in components for line in _fewer(plan, facts, c)]:
        parts.append("Fewer rows than asked for:\n\n" + "\n".join(fewer))
    if any("-" in row for row in rows):
        parts.append("`-`: the task has no examples of this length.")
    return "\n\n".join(parts)


def _fewer(plan: CorpusPlan, facts: Facts, component: Component) -> Iterable[str]:
    """A line for each reason why lengths have fewer rows than asked for."""
    low, high = component.lengths
    short = [
        n
        for n in plan.lengths_of(component)
        if facts.test_rows.get((component.task, n), 0) < plan.test_examples
    ]
    for lengths, why in (
        (
            [n for n in short if low <= n <= high],
            "trained lengths with few prompts: half of them are held out from training and tested, so that "
            "the other half can be trained on",
        ),
        ([n for n in short if not low <= n <= high], "all the prompts that were found"),
    ):
        if lengths:
            yield f"- {_code(component.task)}, length {', '.join(map(str, lengths))}: {why}"


def _loading(plan: CorpusPlan) -> str:
    name = plan.mixture.components[0].task
    code = f"""\
from datasets import load_dataset

corpus = load_dataset(PATH)  # a folder, or org/name on the Hub; train and test of the whole mixture
one_task = load_dataset(PATH, {json.dumps(name)})
stream = load_dataset(PATH, streaming=True)"""
    return fenced(code, "python")


def _making(plan: CorpusPlan, command: str | None) -> str:
    try:
        release = version("hf-lgt")
    except PackageNotFoundError:
        release = "of unknown version"
    text = (
        f"Made by hf_lgt {release}; train split drawn with seed {plan.seed}, test split with seed "
        f"{plan.test_seed}. `corpus.json` lists all settings."
    )
    if command is not None:
        # shown as it was given, unless it would tell everybody a token
        shown = redact(command) if holds_secret(command) else command
        return f"{text} The same rows again:\n\n{fenced(shown, 'bash')}"
    settings = plan.settings()
    components = ",\n        ".join(
        f"Component({c['task']!r}, {c['role']!r}, {tuple(c['lengths'])!r}, {c['weight']!r}, {c['options']!r})"
        for c in settings["mixture"]
    )
    code = f"""\
from data_builders import Component, Mixture, write_corpus

write_corpus(
    FOLDER,
    Mixture([
        {components},
    ]),
    train_examples={settings["train_examples"]},
    test_examples={settings["test_examples"]},
    test_lengths={settings["test_lengths"]},
    seed={settings["seed"]},
    test_seed={settings["test_seed"]},
)"""
    return f"{text} The same rows again:\n\n{fenced(code, 'python')}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text on one line in which nothing is Markdown or HTML, but for code in single backticks."""
    pieces = re.split(r"(`[^`\n]+`)", line(text))
    return begun("".join(_code(piece[1:-1]) if k % 2 else escaped(piece) for k, piece in enumerate(pieces)))


def _code(text: str) -> str:
    """Inline code that may stand in a table."""
    return code(text).replace("|", "\\|")

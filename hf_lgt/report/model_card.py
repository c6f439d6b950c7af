"""The README.md of a saved model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from data_builders import get_task
from data_builders.redaction import redact
from data_builders.texts import code, fenced, plain, printable
from hf_lgt.config.schema import ComponentConfig, Config
from hf_lgt.evaluation.records import EvalRecord, grouped_by_step, last_step
from hf_lgt.report.tables import criterion_lines, length_table, summary_lines
from hf_lgt.utils import yaml

PAPER = "https://arxiv.org/abs/2506.09251"
_CARD = """---
{metadata}
---

# {name}

{model} trained with `hf_lgt` to see whether its target task extrapolates to lengths that only its
auxiliary tasks were trained on, as in
[Extrapolation by Association: Length Generalization Transfer in Transformers]({paper}).

## Tasks

{tasks}

{data}

## Exact match by length

{table}

{summary}

## Use

{tokenizer}

{use}
{positions}
## Config

{config}
"""
_LOOPED = "import hf_lgt.models.looped  # lets transformers know the family\n"
_USE = """\
{family}from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # this folder, or the repository's name on the Hub
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path)
prompt = tokenizer({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64)[0], skip_special_tokens=True))"""


def model_card(
    config: Config,
    records: Sequence[EvalRecord],
    examples: Mapping[str, tuple[str, str]],
    data: Mapping[str, Any],
    base: Mapping[str, Any] = MappingProxyType({}),
    *,
    looped: bool = False,
) -> str:
    """Markdown with metadata: tasks, data, results by length, use, config.

    Args:
        config: the run's config.
        records: of its evaluations; the last one is shown.
        examples: one (prompt, answer) of each task.
        data: which rows a dataset gave, empty for generated data.
        base: the checkpoint that the run began with, empty for a model trained from scratch.
        looped: whether the model is of a family that transformers has to be told of.
    """
    last = last_step(records)
    # rows of a dataset may hold a token, and a card is to be shared
    examples = {task: (redact(prompt), redact(answer)) for task, (prompt, answer) in examples.items()}
    tasks = [_task_line(config, c, *examples[c.task]) for c in config.mixture]
    first = config.mixture[0].task
    prompt = (f"<{first}>" if config.data.tags else "") + examples[first][0]
    derived = base.get("on_hub") and config.model.init == "pretrained"
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["hf_lgt", "length-generalization"],
        base_model=str(base["name_or_path"]) if derived else None,
        base_model_relation="finetune" if derived else None,
        datasets=[str(config.data.path)] if on_hub(data) else None,
        model_name=config.name,
        eval_results=eval_results(config, last, data),
    )
    lines = [*summary_lines(config, last), *criterion_lines(config, grouped_by_step(records))]
    return _CARD.format(
        metadata=metadata.to_yaml(),
        name=plain(config.name),
        model=_model_line(config, base),
        tokenizer=_tokenizer_line(config),
        paper=PAPER,
        data=_data_line(data) + _beyond_line(config),
        tasks="\n".join(tasks),
        table=length_table(config, last),
        summary="\n".join(f"- {line}" for line in lines),
        # an escape of JSON is one of Python
        use=fenced(
            _USE.format(
                family=_LOOPED if looped else "",
                prompt=printable(json.dumps(prompt, ensure_ascii=False)),
            ),
            "python",
        ),
        positions=_positions_line(config) + _heads_line(config),
        config=fenced(yaml.dump(public_config(config, data, base)).rstrip("\n"), "yaml"),
    )


def _model_line(config: Config, base: Mapping[str, Any]) -> str:
    """What was trained."""
    if not base:
        return f"A {config.model.layers}-layer causal language model"
    name = base["name_or_path"] if base.get("on_hub") else Path(base["name_or_path"]).name
    told = code(name) + (f" at revision {code(base['revision'])}" if base.get("revision") else "")
    if isinstance(file := base.get("gguf"), Mapping):
        named, kind, digest = (code(str(file[key])) for key in ("file", "quantization", "sha256"))
        told += f" (weights of {named}, quantised as {kind}, SHA-256 {digest}, taken into float32)"
    if config.model.init == "random":
        return f"A causal language model with the architecture and tokenizer of {told} but random weights,"
    if config.peft.method == "lora":
        return f"{told}, by low-rank adapters that are merged into these weights (alone in `adapter/`),"
    return told


def _tokenizer_line(config: Config) -> str:
    if config.model.name_or_path is None or config.model.tokenizer != "symbols":
        return "The tokenizer begins each text with its beginning-of-sequence token, as in training."
    return (
        "The tokenizer begins each text with its beginning-of-sequence token, and cuts digits, letters and "
        "the signs of the tasks one by one, as in training. So it does in ordinary text too, for which the "
        "base model's own tokenizer is the right one."
    )


def _positions_line(config: Config) -> str:
    """What the saved model does not hold of how it was trained."""
    policy = config.model.position_ids
    if policy == "sequential":
        return ""
    return (
        "\n**Positions.** This is a plain model of transformers, which numbers positions 0, 1, 2, ... by "
        "itself, as it does in the lines above. It was trained, and has the results above, with other "
        f"numbers: `model.position_ids: {policy}` in the config below. `hf-lgt evaluate` "
        "reads that key; other programs have to pass such `position_ids`, with an attention mask of ones.\n"
    )


def _heads_line(config: Config) -> str:
    """That the saved model does not keep to its heads by itself."""
    policy = config.model.role_heads
    if policy == "all":
        return ""
    return (
        "\n**Heads.** It was trained, and has the results above, with half of each layer's heads for an "
        f"example, by its role: `model.role_heads: {policy}` in the config below. `hf-lgt evaluate` of "
        "`hf_lgt` reads that key; the plain model of transformers in the lines above uses all heads.\n"
    )


def public_config(
    config: Config, data: Mapping[str, Any], base: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The config as others may see it: without folders of somebody's disk."""
    shown = config.to_dict()
    del shown["output_dir"]
    # the files beside a config may be another run's
    if base and not base.get("on_hub") and config.model.name_or_path is not None:
        shown["model"]["name_or_path"] = Path(config.model.name_or_path).name
    if data and not on_hub(data) and config.data.path is not None:
        shown["data"]["path"] = Path(config.data.path).name
    return shown


def on_hub(data: Mapping[str, Any]) -> bool:
    """Whether a run's rows are those of a dataset on the Hub."""
    return bool(data.get("revision"))


def _data_line(data: Mapping[str, Any]) -> str:
    if not data:
        return (
            "Every batch was drawn by the task itself; no example was drawn for training that is tested on."
        )
    if on_hub(data):
        where = f"{code(data['path'])} at revision {code(data['revision'])}"
    else:
        where = f"a local dataset, {code(Path(data['path']).name)}"
    tested = f"{data['test_rows']} rows of its test split"
    return f"Trained on {data['train_rows']} rows of {where}, tested on {tested}."


def _beyond_line(config: Config) -> str:
    """What was trained on beside the lengths of the tasks."""
    primed, own = config.data.priming, config.train.self_improvement
    if primed.examples:
        low, high = primed.lengths
        return (
            f" A share of {primed.share} of the target's examples were {primed.examples} long ones, of "
            f"lengths {low} to {high}, again and again."
        )
    if own.rounds:
        return (
            f" In {own.rounds} rounds the model answered longer prompts of the target itself; a share of "
            f"{own.share} of the target's later examples were those answers, right or not "
            "(`train.self_improvement` in the config below)."
        )
    return ""


def _task_line(config: Config, component: ComponentConfig, question: str, answer: str) -> str:
    """One task of the card: its rule where the task is ours, and an example."""
    low, high = component.lengths
    rule = ""
    unit = {"column": "as its length column says"}.get(config.data.length, f"in {config.data.length}")
    if config.data.source == "generated":
        task = get_task(component.task)
        rule, unit = f" {task.summary}", f"in {task.length_unit}"
    return (
        f"- {code(component.task)} ({component.role}, trained on lengths {low} to {high}, counted {unit}):"
        f"{rule} Example: {code(question)} → {code(answer)}"
    )


def eval_results(
    config: Config, records: Sequence[EvalRecord], data: Mapping[str, Any]
) -> list[EvalResult] | None:
    """Exact match of each task and length, as the Hub's ``model-index`` has it."""
    results = [
        EvalResult(
            task_type="text-generation",
            task_name=r.task,
            dataset_type=str(config.data.path) if on_hub(data) else "local" if data else "generated",
            dataset_name=r.task,
            # the format keeps results apart by this, and by no name of a task
            dataset_config=f"{config.data.name}, {r.task}" if config.data.name else r.task,
            dataset_split=config.data.test_split,
            dataset_revision=data.get("revision"),
            metric_type="exact_match",
            metric_name=f"exact match at length {r.length}",
            # of the metric: results of one dataset are written as one, with the first one's dataset_args
            metric_args={"length": r.length, "n": r.n, "role": r.role},
            metric_value=round(r.exact_match, 6),
        )
        for r in records
    ]
    return results or None


def hub_results(config: Config, records: Sequence[EvalRecord], data: Mapping[str, Any]) -> str | None:
    """The same as text of a file in ``.eval_results/``; None for data that are not on the Hub."""
    if not on_hub(data):
        return None
    entries = [
        EvalResultEntry(
            dataset_id=str(config.data.path),
            task_id=f"{r.task}_length_{r.length}",
            value=round(r.exact_match, 6),
            dataset_revision=data["revision"],
            notes=f"exact match, n={r.n}, 95 % interval {r.ci_low:.4f} to {r.ci_high:.4f}",
        )
        for r in records
    ]
    return yaml.dump(eval_result_entries_to_yaml(entries))

"""What a call of a recipe may write, and the options that make its work small."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import os
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.faults.fuzz.running import Main, Plan

MODEL = {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 16}
MOST = {
    "train.steps": 2,
    "train.batch_size": 16,
    "train.length_buckets": 8,
    "eval.examples": 16,
    "eval.mistakes": 4,
    "eval.batch_tokens": 65_536,
    "sequence_length": 64,
    "validation_sequences": 16,
    "tokenizer.vocab_size": 400,
}
"""what is cut down where a config is fine but large"""
MOST_RUNS = 6
"""that a comparison or sweep may have left to do"""
RELATED = (
    "--target",
    "--candidates",
    "--config",
    "--steps",
    "--seeds",
    "--by",
    "--examples",
    "--jobs",
    "--output",
)
"""options of `analyze.py related`"""
Planned = tuple[list[Path], list[str]]


def recipe_main(name: str) -> Main:
    """The main of a recipe."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Main = module.main
    return main


def value_at(data: Any, key: str) -> Any:
    """A value of a config by its dotted key, None where there is none."""
    for part in key.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def cut_down(configs: Iterable[Any]) -> list[str]:
    """Options that make valid configs small, each where one of them is not."""
    options: dict[str, str] = {}
    for config in configs:
        data = config.to_dict()
        options |= {k: str(most) for k, most in MOST.items() if (value_at(data, k) or 0) > most}
        if config.train.compile:
            options["train.compile"] = "false"
        if config.train.gradient_accumulation_steps > 4:
            options["train.gradient_accumulation_steps"] = "4"
        if config.model.name_or_path is None and any((getattr(config.model, k) or 0) > 64 for k in MODEL):
            options |= {f"model.{key}": str(value) for key, value in MODEL.items()}
            options["model.kv_heads"] = "null"
        if value_at(data, "text.source") == "python":
            options |= {"text.source": "files", "text.files": "[text]"}
        if "eval" in data:
            low, high = config.eval.lengths
            if high - low > 20 * config.eval.every:
                options["eval.every"] = str((high - low) // 10)
    return [word for key, value in options.items() for word in (f"--{key}", value)]


def _read(argv: Sequence[str], *flags: str, switches: Sequence[str] = ()) -> tuple[Namespace, list[str]]:
    """Words, options and overrides of a call."""
    from hf_lgt.commands import cli

    arguments = cli.parser("")
    arguments.add_argument("words", nargs="*")
    for flag in flags:
        arguments.add_argument(flag)
    for switch in (*switches, "--overwrite"):
        arguments.add_argument(switch, action="store_true")
    cli.add_hub_options(arguments, "")
    return cli.parse_options(arguments, argv)


def _finetune(argv: Sequence[str]) -> Planned:
    from hf_lgt import load_config
    from hf_lgt.commands import cli

    known, overrides = _read(argv, "--config", "--seeds", "--resume")
    seeds = cli.seeds(known.seeds) if known.seeds else [None]
    given = [[*overrides, *([] if seed is None else [f"seed.init={seed}"])] for seed in seeds]
    configs = [load_config(known.config, words) for words in given]
    return [config.run_dir for config in configs], cut_down(configs)


def _pretrain(argv: Sequence[str]) -> Planned:
    from hf_lgt.pretraining.config import load_pretrain_config

    known, overrides = _read(argv, "--config", "--resume")
    config = load_pretrain_config(known.config, overrides)
    return [config.run_dir], cut_down([config])


def _build_dataset(argv: Sequence[str]) -> Planned:
    from hf_lgt import load_config

    known, overrides = _read(argv, "--config", "--train_examples", "--num_proc", "--output", "--lm_eval")
    config = load_config(known.config, overrides)
    given = [known.output or f"corpora/{config.name}", known.lm_eval]
    return [Path(folder) for folder in given if folder], cut_down([config])


def _compare(argv: Sequence[str]) -> Planned:
    from hf_lgt.commands import cli
    from hf_lgt.experiments.plan import plan
    from hf_lgt.experiments.revisions import choose
    from hf_lgt.experiments.spec import load_comparison

    known, overrides = _read(argv, "--seeds", "--checkpoints", "--jobs", "--together")
    comparison = load_comparison(known.words[0])
    if known.seeds is not None:
        comparison = dataclasses.replace(comparison, seeds=cli.seeds(known.seeds))
    if known.checkpoints is not None:
        chosen = choose(comparison.checkpoints, known.checkpoints)
        comparison = dataclasses.replace(comparison, checkpoints=chosen)
    planned = plan(comparison, overrides)
    options = cut_down(run.config for run in planned if not run.finished)
    if sum(not run.finished for run in planned) > MOST_RUNS:
        options += ["--seeds", str(comparison.seeds[0])]
    return [Path(planned[0].config.output_dir) / comparison.name, *(run.run_dir for run in planned)], options


def _sweep(argv: Sequence[str]) -> Planned:
    from hf_lgt.commands import cli
    from hf_lgt.experiments.plan import plan, todo
    from hf_lgt.experiments.spec import load_sweep

    words = ("--seeds", "--executor", "--jobs", "--retries", "--together")
    known, overrides = _read(argv, *words, switches=["--dry_run"])
    spec = load_sweep(known.words[0])
    if known.seeds is not None:
        seeds = tuple(dict.fromkeys([*spec.seeds, *cli.seeds(known.seeds)]))
        spec = dataclasses.replace(spec, seeds=seeds)
    runs = plan(spec, overrides)
    options = cut_down(run.config for run in todo(runs))
    if options:
        runs = plan(spec, [*overrides, *_as_overrides(options)])
    if len(todo(runs)) > MOST_RUNS:
        options.append("--dry_run")
    return [runs[0].folder, *(run.run_dir for run in runs)], options


def _as_overrides(options: Sequence[str]) -> list[str]:
    return [f"{key[2:]}={value}" for key, value in zip(options[::2], options[1::2], strict=True)]


def _evaluate(argv: Sequence[str]) -> Planned:
    known, overrides = _read(argv, "--config", "--output", switches=["--check_generation"])
    path = Path(os.path.realpath(known.words[0]))
    around = (path, path.parent, path.parent.parent)
    homes = [folder / "evaluations" for folder in around]
    if known.output:
        return [Path(known.output)], _evaluated(known, overrides, around)[1]
    config, options = _evaluated(known, overrides, around)
    if config is not None:
        homes.append(Path(config.output_dir) / "evaluations" / config.name)
    return homes, options


def _evaluated(known: Namespace, overrides: list[str], around: Sequence[Path]) -> tuple[Any, list[str]]:
    """The config of an evaluation, None where it is not valid."""
    from hf_lgt import load_config

    files = [folder / "config.yaml" for folder in around] + [around[0] / "run" / "config.yaml"]
    file = known.config or next((file for file in files if file.is_file()), None)
    try:
        config = load_config(file, overrides)
    except Exception:  # it is the recipe's to say what is wrong
        return None, []
    return config, cut_down([config])


def _analyze(argv: Sequence[str]) -> Planned:
    if argv[0] == "related":
        return _related(argv[1:])
    known, _ = _read(
        argv[1:], "--lengths", "--examples", "--tasks", "--checkpoints", "--k", "--into", "--related",
        "--output",
    )  # fmt: skip
    if known.output:
        return [Path(known.output)], []
    folders = [Path(word) for word in known.words]
    places = folders if argv[0] == "predict" else [way for f in folders for way in (f, f.parent)]
    return [place / "analysis" for place in places], []


def _related(argv: Sequence[str]) -> Planned:
    from hf_lgt.commands.rank import plan_related

    known, overrides = _read(argv, *RELATED)
    question = question_of(argv)
    _, runs = plan_related(question, known.config, overrides)
    output = [Path(known.output)] if known.output else []
    options = cut_down(run.config for run in runs)
    if options:
        _, runs = plan_related(question, known.config, [*overrides, *_as_overrides(options)])
    return [*output, runs[0].folder, *(run.run_dir for run in runs)], options


def question_of(argv: Sequence[str]) -> Any:
    """What `analyze.py related` is asked by its options."""
    from hf_lgt.analysis.ranking import Question
    from hf_lgt.commands import cli

    known, _ = _read(argv, *RELATED)
    candidates = tuple(name.strip() for name in known.candidates.split(","))
    return Question(known.target, candidates, int(known.steps), cli.seeds(known.seeds), int(known.examples))


def _report(argv: Sequence[str]) -> Planned:
    known, _ = _read(argv, "--output")
    return [Path(known.output or Path(known.words[0]) / "report")], []


_PLANS: dict[str, Callable[[Sequence[str]], Planned]] = {
    "finetune": _finetune,
    "pretrain": _pretrain,
    "build_dataset": _build_dataset,
    "compare": _compare,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "analyze": _analyze,
    "report": _report,
}


def plan_of(recipe: str) -> Plan:
    """What a recipe may write when it is called with some arguments; nothing where they are not valid."""

    def plan(argv: Sequence[str]) -> Planned:
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                return _PLANS[recipe](argv)
        except (Exception, SystemExit):  # it is the recipe's to say what is wrong
            return [], []

    return plan

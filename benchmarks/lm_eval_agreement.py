"""Exact match by lm-evaluation-harness and by our teacher-forced pass, example by example.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/lm_eval_agreement.py --run runs/demo-transfer/seed-0

Writes a corpus with the tasks of the run, evaluates the models on its test rows both ways, ours through
the dataset reader and the harness's through the tasks that recipes/build_dataset.py --lm_eval writes, and
compares. Exit status 1 if any example, or the tokens of any prompt, differ. A model that is always right
shows little: a checkpoint from the middle of training, `--run RUN/checkpoints/step-002000 RUN`, gives all
tasks something to be wrong about.
Without --run the demo is trained first, which takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is read from the Hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tabulate import tabulate

from data_builders import CorpusPlan
from data_builders.corpus.folder import write_plan
from data_builders.corpus.lm_eval import Cell, write_tasks
from hf_lgt import load_config, train
from hf_lgt.data.build import prepare_tests
from hf_lgt.data.eval_sets import answer_starts
from hf_lgt.evaluation.harness import score_examples
from hf_lgt.evaluation.trained_model import TrainedModel, find_model, load_trained_model
from hf_lgt.models.forward import inference
from hf_lgt.utils.environment import describe_environment

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "recipes" / "demo" / "transfer.yaml"

Scores = dict[Cell, list[tuple[list[int], bool]]]
"""of each test row, in order: the ids of its prompt, and whether the answer is right"""
Names = dict[str, Cell]
"""what each task of the harness evaluates"""


def ours(found: TrainedModel, corpus: Path, lengths: Sequence[int]) -> Scores:
    """Our own evaluation of the test rows of a corpus."""
    # the options are the corpus's, so its rows are all that counts
    mixture = [{"task": c.task, "role": c.role, "lengths": list(c.lengths)} for c in found.config.mixture]
    overrides = [
        f"mixture={json.dumps(mixture)}",
        "data.source=dataset",
        f"data.path={corpus}",
        f"eval.lengths=[{min(lengths)},{max(lengths)}]",
        "eval.examples=1000000",
    ]
    again = find_model(found.folder, None, overrides)
    model, codec = load_trained_model(again)
    tests, scores = prepare_tests(again.config, codec, None), {}
    with inference(model):
        for cell in tests.cells:
            batch = tests.examples(cell).batch
            exact = score_examples(model, batch, codec.eos_id, again.config.eval.batch_tokens).exact
            prompts = [ids[:n].tolist() for ids, n in zip(batch.ids, answer_starts(batch), strict=True)]
            scores[cell.task, cell.length] = list(zip(prompts, exact.tolist(), strict=True))
    return scores


def harness_model(found: TrainedModel, batch_size: int = 64) -> HFLM:
    """The model as the harness takes it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return HFLM(pretrained=str(found.folder), device=device, batch_size=batch_size)


def harness(model: HFLM, tasks: Path, names: Names) -> tuple[Scores, dict[Cell, float]]:
    """The harness's scores of the test rows, and the exact match that it tells."""
    manager = TaskManager(include_path=str(tasks))
    answer = lm_eval.simple_evaluate(
        model=model, tasks=list(names), task_manager=manager, log_samples=True, bootstrap_iters=0
    )
    scores, told = {}, {}
    for name, cell in names.items():
        samples = sorted(answer["samples"][name], key=lambda sample: sample["doc_id"])
        scores[cell] = [
            (model.tok_encode(sample["arguments"][0][0]), bool(sample["exact_match"])) for sample in samples
        ]
        told[cell] = answer["results"][name]["exact_match,none"]
    return scores, told


def compare(
    found: TrainedModel, folder: Path, lengths: Sequence[int], examples: int
) -> Iterator[dict[str, Any]]:
    """One row a task and length."""
    corpus, tasks = folder / "corpus", folder / "tasks"
    corpus.mkdir(parents=True)
    tasks.mkdir()
    config = found.config
    plan = CorpusPlan(config.build_mixture(), 1000, examples, lengths)
    write_plan(corpus, plan)
    names = write_tasks(tasks, plan, str(corpus), corpus=corpus, name=config.name, tags=config.data.tags)
    mine = ours(found, corpus, lengths)
    theirs, told = harness(harness_model(found), tasks, names)
    for cell, rows in theirs.items():
        pairs = list(zip(mine[cell], rows, strict=True))
        yield {
            "model": f"{config.name}, seed {config.seed.init}, step {found.step}",
            "task": cell[0],
            "length": cell[1],
            "n": len(pairs),
            "ours": sum(exact for _, exact in mine[cell]) / len(pairs),
            "lm_eval": told[cell],
            "disagreements": sum(a[1] != b[1] for a, b in pairs),
            "prompts_differ": sum(a[0] != b[0] for a, b in pairs),
        }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--run", nargs="+", help="folders of runs, or of their checkpoints")
    arguments.add_argument("--lengths", type=int, nargs="+", default=[10, 13, 16], help="[10 13 16]")
    arguments.add_argument("--examples", type=int, default=256, help="test rows a task and length [256]")
    arguments.add_argument("--json", type=Path, help="write the numbers here")
    known = arguments.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        folder, runs = Path(name), known.run
        if not runs:
            run = train(load_config(DEMO, [f"output_dir={folder}"])).run_dir
            runs = [str(run / "checkpoints" / "step-002000"), str(run)]
        rows = []
        for k, run in enumerate(runs):
            rows += compare(find_model(run, None, []), folder / str(k), known.lengths, known.examples)
    print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4f"))
    wrong = sum(row["disagreements"] + row["prompts_differ"] for row in rows)
    n = sum(row["n"] for row in rows)
    print(f"{n} examples, {wrong} differ (lm_eval {metadata.version('lm_eval')})")
    if known.json:
        about = describe_environment("cpu", 1)
        about["packages"]["lm_eval"] = metadata.version("lm_eval")
        known.json.write_text(
            json.dumps({"environment": about, "cells": rows}, indent=1) + "\n", encoding="utf-8"
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

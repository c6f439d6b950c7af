"""Exact match by one teacher-forced pass, side by side with `generate` and lm-evaluation-harness.

The same trained model, tasks, lengths and numbers of examples; the model is loaded and, but for the
harness, which reads a corpus on disk, the examples are in memory. That all three agree is what
lm_eval_agreement.py and the tests show.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np

from benchmarks.lm_eval_agreement import DEMO, harness, harness_model
from benchmarks.sides import OURS, Comparison, alternate
from data_builders import CorpusPlan
from data_builders.corpus.folder import write_plan
from data_builders.corpus.lm_eval import write_tasks
from hf_lgt import load_config, train
from hf_lgt.evaluation.generation import generate_answers
from hf_lgt.evaluation.harness import score_examples
from hf_lgt.evaluation.trained_model import find_model, load_trained_model, tests_of
from hf_lgt.models.forward import inference


def compare(quick: bool) -> Comparison:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    lengths, examples, steps = (10, 13, 16), 32 if quick else 256, 60 if quick else 800
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = [f"output_dir={folder}", f"train.steps={steps}", "train.eval_every=null"]
        run = train(load_config(DEMO, settings), progress=False).run_dir
        found = find_model(run, None, [f"eval.examples={examples}"])
        corpus, tasks = folder / "corpus", folder / "tasks"
        corpus.mkdir()
        tasks.mkdir()
        plan = CorpusPlan(found.config.build_mixture(), 1000, examples, lengths)
        write_plan(corpus, plan)
        named = {"name": found.config.name, "tags": found.config.data.tags}
        names = write_tasks(tasks, plan, str(corpus), corpus=corpus, **named)

        model, codec = load_trained_model(found)
        tests, theirs = tests_of(found, codec, model), harness_model(found, batch_size=256)
        batches = [tests.examples(cell).batch for cell in tests.cells if cell.length in lengths]

        def one_pass() -> None:
            with inference(model):
                for batch in batches:
                    score_examples(model, batch, codec.eos_id, found.config.eval.batch_tokens)

        def generation() -> None:
            with inference(model):
                for batch in batches:
                    generate_answers(model, batch, np.arange(len(batch.lengths)), codec)

        def timed(work) -> float:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start

        sides = {
            OURS: lambda: timed(one_pass),
            "generate": lambda: timed(generation),
            "lm-evaluation-harness": lambda: timed(lambda: harness(theirs, tasks, names)),
        }
        return alternate(
            "exact match of the demo's model",
            sides,
            1 if quick else 5,
            target={"generate": 1.5, "lm-evaluation-harness": 4.0},
            note=f"3 tasks, lengths 10, 13, 16, {examples} examples each",
        )

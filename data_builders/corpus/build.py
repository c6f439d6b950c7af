"""A mixture as a Hugging Face dataset: the `datasets` builder, and folders that the Hub takes.

Training rows are drawn in chunks, each a pure function of the seed and its place, so that any number
of processes writes the same rows in the same order, and a smaller corpus is the beginning of a larger.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError
from numpy.typing import NDArray

from data_builders.arrays import Sample
from data_builders.corpus.arrow import mask_array, text_array
from data_builders.corpus.parallel import each
from data_builders.corpus.plan import MIXTURE, CorpusPlan
from data_builders.mixture import Component, Mixture
from data_builders.registry import TaskError, unknown
from data_builders.sampling import CORPUS_CHUNK, HeldOut, TestSet, draw_chunk, draw_test_set

FEATURES = datasets.Features(
    {
        "task": datasets.Value("string"),
        "role": datasets.Value("string"),
        "length": datasets.Value("int32"),
        "prompt": datasets.Value("string"),
        "target": datasets.Value("string"),
        "loss_mask": datasets.List(datasets.Value("bool")),
    }
)
"""loss_mask: null where all target symbols and EOS count, else exactly the marked symbols do"""


@dataclass
class CorpusConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """Configuration of `CorpusBuilder`: all rows of the mixture, or those of the task it is named after."""

    plan: CorpusPlan = field(default=cast("CorpusPlan", None))

    @property
    def components(self) -> list[Component]:
        """The components whose rows it has."""
        return [c for c in self.plan.mixture.components if self.name in (MIXTURE, c.task)]


class CorpusBuilder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Builds one configuration of a corpus.

    Args:
        plan: what the corpus is made of.
        config_name: one of `CorpusPlan.configurations`.
        cache_dir: where the rows are kept; None: the cache of `datasets`.

    Raises:
        TaskError: there is no such configuration.
    """

    BUILDER_CONFIG_CLASS = CorpusConfig
    _processes = 1
    DEFAULT_WRITER_BATCH_SIZE = CORPUS_CHUNK

    def __init__(
        self, plan: CorpusPlan, config_name: str = MIXTURE, *, cache_dir: str | Path | None = None
    ) -> None:
        if config_name not in plan.configurations:
            raise TaskError(unknown("configuration", config_name, plan.configurations))
        super().__init__(
            cache_dir=None if cache_dir is None else str(cache_dir),
            config_name=config_name,
            config_id=config_name,
            hash=plan.fingerprint(),
            plan=plan,
        )

    def __getstate__(self) -> dict[str, Any]:
        rules = [component.definition.rule for component in self.config.plan.mixture.components]
        return {**self.__dict__, "_modules": sorted({rule.__module__ for rule in rules} - {"__main__"})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a process that was not forked knows only the tasks of this package
        for module in state.pop("_modules"):
            importlib.import_module(module)
        super().__setstate__(state)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=FEATURES)

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:
        plan, tests = self.config.plan, []
        for component in self.config.components:
            low, high = component.lengths
            sets = {
                length: draw_test_set(component, length, plan.test_examples, plan.test_seed)
                for length in plan.lengths_of(component)
            }
            tests.append((component, sets, range(low, high + 1)))
        held_out = HeldOut.from_tests(
            (component, [test for length, test in sets.items() if length in trained])
            for component, sets, trained in tests
        )
        chunks = list(range(-(-int(plan.train_examples) // CORPUS_CHUNK)))
        rows = [_test_rows(component, sets, trained) for component, sets, trained in tests]
        # a list is what `datasets` divides among readers of a stream; the test rows are drawn already
        train = datasets.SplitGenerator("train", {"chunks": chunks, "held_out": held_out})
        test = datasets.SplitGenerator(
            "test", {"chunks": (), "drawn": tuple(r for part in rows for r in part)}
        )
        return [train, test]

    def _prepare_split(
        self, split_generator: Any, *args: Any, num_proc: int | None = None, **kw: Any
    ) -> None:
        # processes of our own: those of `datasets` outlive this one if it is killed
        self._processes = num_proc or 1
        super()._prepare_split(split_generator, *args, **kw)

    def _generate_tables(
        self,
        chunks: Sequence[int],
        held_out: HeldOut | None = None,
        drawn: Sequence[tuple[Component, int, Sample]] = (),
    ) -> Iterator[tuple[str, pa.Table]]:
        tables = each(partial(self._chunk, held_out=held_out), chunks, self._processes)
        for index, table in zip(chunks, tables, strict=True):
            if len(table):
                yield f"chunk {index}", table
        for component, length, sample in drawn:
            yield f"{component.task} {length}", _table(component, np.full(len(sample), length), sample)

    def _chunk(self, index: int, *, held_out: HeldOut | None) -> pa.Table:
        """Rows of one chunk in their order."""
        plan, name = self.config.plan, self.config.name
        draw = draw_chunk(plan.mixture, index, int(plan.seed), held_out, None if name == MIXTURE else name)
        limit = int(plan.train_examples) - index * CORPUS_CHUNK
        parts, places = [], []
        for component, (rows, sample) in zip(self.config.components, draw.groups, strict=True):
            if limit < CORPUS_CHUNK:
                rows, sample = rows[rows < limit], sample.take(rows < limit)
            parts.append(_table(component, draw.length[rows], sample))
            places.append(rows)
        if len(parts) == 1:
            return parts[0]
        return pa.concat_tables(parts).combine_chunks().take(np.argsort(np.concatenate(places)))


def _test_rows(
    component: Component, sets: dict[int, TestSet], trained: range
) -> Iterator[tuple[Component, int, Sample]]:
    """Test examples by length; of a trained length only those that are held out from training."""
    for length, test in sets.items():
        n = test.held_out if length in trained else len(test.examples)
        if n:
            yield component, length, test.examples.take(np.arange(n))


def _table(component: Component, lengths: NDArray[np.int64], sample: Sample) -> pa.Table:
    """Examples of one component as rows of the corpus; lengths int64 [n]."""
    n = len(sample)
    columns = [
        pa.repeat(component.task, n),
        pa.repeat(component.role, n),
        pa.array(lengths.astype(np.int32)),
        text_array(sample.prompt),
        text_array(sample.target),
        mask_array(sample.target, sample.loss_mask, sample.scores_eos),
    ]
    return pa.Table.from_arrays(columns, schema=FEATURES.arrow_schema)


def build_corpus(
    mixture: Mixture,
    train_examples: int,
    test_examples: int,
    test_lengths: Sequence[int],
    seed: int = 0,
    num_proc: int | None = None,
    *,
    test_seed: int = 1234,
    cache_dir: str | Path | None = None,
) -> datasets.DatasetDict:
    """The mixture as a dataset, kept in the cache of `datasets`.

    No training row has a test prompt of its task. The rows depend on neither `num_proc` nor the cache.

    Args:
        mixture: what to draw from.
        train_examples: rows of the train split, of all tasks together.
        test_examples: test rows wanted of each task and length; there are fewer where a task has fewer
            prompts, and at trained lengths never more than half of a length's prompts.
        test_lengths: lengths of the test split; a task takes those that it has.
        seed: draws the train split.
        num_proc: processes that draw it; None: this one.
        test_seed: draws the test split.
        cache_dir: where the rows are kept; None: the cache of `datasets`.

    Returns:
        Splits train and test with the columns task, role, length, prompt, target, loss_mask.

    Raises:
        TaskError: an argument is wrong; the message names every wrong one.
    """
    check_processes(num_proc)
    plan = CorpusPlan(mixture, train_examples, test_examples, test_lengths, seed, test_seed)
    return build(plan, num_proc=num_proc, cache_dir=cache_dir)


def build(
    plan: CorpusPlan,
    config_name: str = MIXTURE,
    *,
    num_proc: int | None = None,
    cache_dir: str | Path | None = None,
) -> datasets.DatasetDict:
    """One configuration of a corpus, see `build_corpus`."""
    builder = CorpusBuilder(plan, config_name, cache_dir=cache_dir)
    try:
        builder.download_and_prepare(num_proc=num_proc)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, (TaskError, OSError)):
            raise error.__cause__ from None
        raise
    if not builder.info.splits["train"].num_examples:
        raise TaskError(
            f"train_examples is {plan.train_examples}, which leaves {config_name} without a row; use more"
        )
    return builder.as_dataset()


def check_processes(num_proc: int | None) -> None:
    """Refuse a number of processes that is none.

    Raises:
        TaskError: it is no integer from 1.
    """
    if num_proc is not None and (type(num_proc) is not int or num_proc < 1):
        raise TaskError(f"num_proc is {num_proc!r}; it must be an integer from 1, or None")

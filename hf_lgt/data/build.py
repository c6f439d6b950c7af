"""What a config's data section comes to: tokenizer, training batches and test sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from data_builders.sampling import HeldOut, stream
from hf_lgt.config.schema import Config, DataConfig, short
from hf_lgt.config.validate import length_faults
from hf_lgt.data.batch_sources import DatasetSource, GeneratedSource, Source
from hf_lgt.data.codec import CheckpointTokenizer, Codec, TextCodec
from hf_lgt.data.eval_sets import DatasetTests, GeneratedTests, TestSets
from hf_lgt.data.filler import FilledSource
from hf_lgt.data.hub_open import Opened, build_codec, only_task, open_dataset
from hf_lgt.data.hub_rows import TokenRows
from hf_lgt.data.long_examples import Rounds, priming_of, prompts_beyond, rounds_of
from hf_lgt.data.policies import Policies, policies_of
from hf_lgt.data.split_reader import SplitReader, fingerprint_of
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.memory import require


@dataclass(frozen=True)
class RunData:
    """The data of a run."""

    codec: TextCodec
    source: Source
    tests: TestSets
    about: dict[str, Any]
    """which rows they are: differs where the numbers of a run would; empty for generated data"""
    warnings: tuple[str, ...] = ()
    """what a user should know of the dataset"""
    rounds: Rounds = field(default_factory=dict)
    """prompts of self-improvement"""


LEAST_EXAMPLE, LEAST_TEST = 64, 8
"""bytes of an example of a batch, and of a test example that training avoids"""


def _check_examples(config: Config) -> None:
    """Refuse test sets that are too large for memory."""
    cells = len(config.mixture) * len(config.eval.grid_range)
    told = f"eval.examples: {config.eval.examples} examples of {cells} tasks and lengths"
    require(config.eval.examples * cells * LEAST_TEST, told)


def open_data(config: Config, revision: str | None = None) -> Opened | None:
    """The dataset of a config, None where examples are generated.

    Args:
        config: a checked config.
        revision: commit to read it at where the config names none.

    Raises:
        ConfigError: it cannot be opened.
    """
    return open_dataset(_at(config.data, revision)) if config.data.source == "dataset" else None


def prepare_data(
    config: Config, opened: Opened | None, start: CheckpointTokenizer | None = None, *, progress: bool = False
) -> RunData:
    """Everything that training and its evaluations need.

    Args:
        config: a checked config.
        opened: from `open_data`.
        start: the checkpoint whose tokenizer is used, None for a model trained from scratch.
        progress: show bars.

    Raises:
        ConfigError: a dataset has faulty rows, or none for a task; or a length takes more tokens than
            the checkpoint.
    """
    limit = start.limit if start else config.model.position_limit
    policies = policies_of(config.model, limit)
    batch = config.train.batch_size
    require(batch * LEAST_EXAMPLE, f"train.batch_size: a batch of {batch} examples")
    if opened is None:
        return _generated_data(config, start, policies)
    task = only_task(config, opened)
    codec = build_codec(config, opened, task, start)
    reader = SplitReader(config, opened, task, codec, limit, progress)
    trained, tested = reader.both()
    tests = _dataset_tests(config, codec, tested, trained, policies)
    source = DatasetSource(
        trained,
        config.mixture,
        batch_size=batch,
        seed=config.seed.data,
        pad_id=codec.pad_id,
        policies=policies,
    )
    about = {
        "path": config.data.path,
        "revision": opened.revision,
        "train_rows": len(trained),
        "test_rows": len(tested),
        "fingerprint": fingerprint_of(codec, trained, tested),
        "train_fingerprint": fingerprint_of(codec, trained),
    }
    return RunData(codec, _with_filler(config, source, codec), tests, about, tuple(opened.warnings))


def _generated_data(config: Config, start: CheckpointTokenizer | None, policies: Policies) -> RunData:
    """As `prepare_data`, for tasks that are drawn."""
    _check_examples(config)
    if start:
        _check_context(config, start)
    mixture = config.build_mixture()
    nodes = max(c.definition.nodes(c.options) for c in mixture.components)
    wanted: Any = {"tasks": [c.task for c in config.mixture], "nodes": nodes, "tags": config.data.tags}
    codec = start.codec(Codec, **wanted) if start else Codec.build(**wanted)
    held_out = HeldOut(mixture, config.eval.grid, config.eval.examples, config.eval.seed)
    source = GeneratedSource(
        mixture,
        codec,
        batch_size=config.train.batch_size,
        seed=config.seed.data,
        held_out=held_out,
        policies=policies,
        growing=round(config.data.curriculum * config.train.steps),
        priming=priming_of(config, mixture),
    )
    tests = generated_tests(config, codec, held_out, policies)
    rounds = rounds_of(config, mixture)
    return RunData(codec, _with_filler(config, source, codec), tests, {}, rounds=rounds)


def _with_filler(config: Config, source: Source, codec: TextCodec) -> Source:
    """A source whose examples have the config's filler."""
    most = config.data.filler
    return FilledSource(source, most, codec.bos_id, config.seed.data) if most else source


def _check_context(config: Config, start: CheckpointTokenizer) -> None:
    """Refuse lengths of generated tasks that take more tokens than a checkpoint."""
    whose = f"the context of {short(start.name)} is"
    if faults := [fault for _, fault in length_faults(config, start.limit, whose)]:
        raise ConfigError(faults)


def prepare_tests(
    config: Config,
    codec: TextCodec,
    trained: Config | None,
    *,
    recorded: Mapping[str, Any] | None = None,
    limit: int | None = None,
    progress: bool = False,
) -> TestSets:
    """The test sets of a config, for a model that is there.

    Args:
        config: names the tasks, lengths and test seed.
        codec: the model's.
        trained: the run that the model comes from, if any: says which prompts it never saw.
        recorded: what the run wrote of its dataset, see `RunData.about`.
        limit: longest sequence that the model takes, in tokens; None: that of the config.
        progress: show bars.

    Raises:
        ConfigError: as `prepare_data`; also where the tokenizer lacks what the tasks write.
    """
    limit = limit or config.model.position_limit
    policies = policies_of(config.model, limit)
    roles = {c.task: c.role for c in trained.mixture} if trained else {}
    if config.data.source == "generated":
        _check_examples(config)
        held_out = None
        if trained and trained.data.source == "generated":
            seen = trained.eval
            held_out = HeldOut(trained.build_mixture(), seen.grid, seen.examples, seen.seed)
            held_out.beyond = prompts_beyond(trained)
        return generated_tests(config, codec, held_out, policies, roles)
    known = trained if trained and trained.data == config.data else None
    recorded = recorded or {}
    opened = open_dataset(_at(config.data, recorded.get("revision")) if known else config.data)
    task = only_task(config, opened)
    tested = SplitReader(config, opened, task, codec, limit, progress).rows(train=False)
    seen_rows = None
    if known:
        seen_rows = SplitReader(known, opened, task, codec, limit, progress).rows(train=True)
        if fingerprint_of(codec, seen_rows) != recorded.get("train_fingerprint"):
            seen_rows = None  # not the rows that it was trained on: the overlap is not known
    return _dataset_tests(config, codec, tested, seen_rows, policies, roles)


def _dataset_tests(
    config: Config,
    codec: TextCodec,
    tested: TokenRows,
    trained: TokenRows | None,
    policies: Policies,
    roles: Mapping[str, str] = MappingProxyType({}),
) -> DatasetTests:
    """Test sets of a dataset's rows."""
    return DatasetTests(
        codec,
        tested,
        config.mixture,
        examples=config.eval.examples,
        seed=config.eval.seed,
        trained=trained,
        policies=policies,
        roles=roles,
    )


def _at(data: DataConfig, revision: str | None) -> DataConfig:
    return dataclasses.replace(data, revision=data.revision or revision)


def generated_tests(
    config: Config,
    codec: TextCodec,
    held_out: HeldOut | None,
    policies: Policies,
    roles: Mapping[str, str] = MappingProxyType({}),
) -> GeneratedTests:
    """Test sets drawn from the tasks."""
    if not isinstance(codec, Codec):
        raise ConfigError(["data.source: 'generated', but the model's tokenizer is of texts, not of symbols"])
    return GeneratedTests(
        codec,
        config.build_mixture().components,
        config.eval.grid,
        examples=config.eval.examples,
        seed=config.eval.seed,
        held_out=held_out,
        policies=policies,
        roles=roles,
    )


def load_codec(path: Any, config: Config, *, trust_remote_code: bool = False) -> TextCodec:
    """The codec of a saved model's tokenizer, of the kind that the config says.

    Args:
        path: the model's folder.
        config: says which kind.
        trust_remote_code: run Python code that comes with it.

    Raises:
        ValueError: the tokenizer has no token that begins, or none that ends a sequence; or it needs
            code that is not to be run.
    """
    kind = Codec if config.model.tokenizer == "symbols" else TextCodec
    codec = kind.load(path, tags=config.data.tags, trust_remote_code=trust_remote_code)
    _ = codec.bos_id, codec.eos_id
    return codec


def example_texts(config: Config, tests: TestSets) -> dict[str, tuple[str, str]]:
    """One short (prompt, answer) of each task, as a model card shows it."""
    texts = {}
    for component in config.mixture:
        if config.data.source == "generated":
            task = next(c for c in config.build_mixture().components if c.task == component.task)
            least = task.definition.smallest_length(task.options)
            longest = task.definition.largest_length(task.options) or 4
            drawn = task.definition.sample(
                stream(0, "example"), max(least, min(4, longest)), 1, **task.options
            )
            texts[component.task] = drawn.text()[0]
            continue
        assert isinstance(tests, DatasetTests)
        cells = [cell for cell in tests.cells if cell.task == component.task]
        texts[component.task] = tests.text(min(cells, key=lambda cell: abs(cell.length - 4)))
    return texts

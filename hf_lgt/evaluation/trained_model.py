"""A model on disk with what it is evaluated on: found, loaded, given its test sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_lgt.checkpointing.adapter_files import load_adapted
from hf_lgt.checkpointing.checkpoints import MANIFEST, verify
from hf_lgt.checkpointing.run_folder import (
    is_finished,
    read_run_config,
    recorded_checkpoint,
    recorded_data,
)
from hf_lgt.config.consent import Consent, consent_of, run_of
from hf_lgt.config.load import load_config
from hf_lgt.config.schema import Config
from hf_lgt.config.validate import length_faults
from hf_lgt.data.build import load_codec, prepare_tests
from hf_lgt.data.codec import TextCodec
from hf_lgt.data.eval_sets import TestSets
from hf_lgt.evaluation.records import steps_taken
from hf_lgt.models.base_checkpoint import context_length, open_base_checkpoint, read_architecture
from hf_lgt.models.build import decode_greedily, load_base, require_policies
from hf_lgt.models.readable import readable
from hf_lgt.models.weights import load_weights
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.memory import check_model_folder
from hf_lgt.utils.variables import arithmetic_faults


@dataclass(frozen=True)
class TrainedModel:
    """A model on disk and what it is evaluated on."""

    folder: Path
    """what `from_pretrained` reads"""
    step: int
    config: Config
    """tasks, lengths and test seed of the evaluation"""
    trained: Config | None
    """config of the run it comes from, if any: says which prompts it never saw"""
    output: Path
    """where evaluations go by default"""
    run: Path | None = None
    """folder of the run that it comes from, if any"""
    consent: Consent = field(default_factory=Consent)
    """what the user allows to be done with code and pickles of the folder, and of its adapters' base"""


def find_model(path: str | Path, config: str | None, overrides: Sequence[str]) -> TrainedModel:
    """Find out what a user's path names.

    Args:
        path: a run's folder, a checkpoint of it, or a folder with a model of any origin.
        config: file that names the tasks; needed where the path belongs to no run.
        overrides: ``section.key=value``, the user's own: they may allow code, see `hf_lgt.config.consent`.

    Raises:
        ConfigError: no model there, or no config; also every fault of the config.
    """
    path = Path(path).resolve()
    run = run_of(path)
    folder = path / "model" if run == path else path
    if run == path and not is_finished(path):
        raise ConfigError([f"{path} is not finished and has no model/; name one of its checkpoints/"])
    adapted = (folder / "adapter_config.json").is_file()
    if not adapted and not (folder / "config.json").is_file():
        raise ConfigError([f"{path}: no run and no model (no config.yaml, no config.json)"])
    if not run and adapted:
        raise ConfigError([f"{path} holds adapters without their run, which names their base; name the run"])
    consent = consent_of(config, overrides, run or path)
    if not run and not config:
        pushed = path / "run" / "config.yaml"  # where `hf_lgt.workflows.publish` puts it
        if not pushed.is_file():
            raise ConfigError([f"{path} belongs to no run; --config must name the tasks to evaluate"])
        config = str(pushed)
    file = config or str(run / "config.yaml") if run else str(config)
    trained = read_run_config(run) if run else None
    if adapted and trained and trained.peft.method == "none":
        raise ConfigError([f"{path} holds adapters, but {run}/config.yaml has none (peft.method 'none')"])
    overrides = [*_policy_of(trained, overrides), *overrides]
    if not adapted and (trained is None or trained.model.name_or_path):
        limit = _context(folder, consent)
        overrides = [*overrides, *([f"model.max_positions={limit}"] if limit else [])]
    # consent is for one command, not for the config that the evaluation keeps
    wanted = load_config(file, [*overrides, *Consent().overrides()])
    name = folder.name.removeprefix("step-")
    step = int(name) if name.isdigit() else steps_taken(run, trained.train.steps) if run and trained else 0
    # not into a run's folder, which a foreign model has none of: training would find it taken
    output = run / "evaluations" if run else Path(wanted.output_dir) / "evaluations" / wanted.name
    return TrainedModel(folder, step, wanted, trained, output, run, consent)


def _policy_of(trained: Config | None, overrides: Sequence[str]) -> list[str]:
    """What says that a run's model is evaluated with the positions and heads that it was trained with.

    They are no part of the model, and another config that names the tasks says nothing of them. An override
    of the user's own counts more.
    """
    given = {override.removeprefix("--").partition("=")[0] for override in overrides}
    if trained is None:
        return []
    model = trained.model
    # what another config says of training examples is nothing to an evaluation
    heads = [f"model.role_heads={model.role_heads}", "data.filler=0", "train.self_improvement={}"]
    if model.role_heads != "all":  # what training would refuse beside it is nothing to an evaluation
        heads += ["train.compile=false", "train.gradient_checkpointing=false"]
    if "model.position_ids" in given:
        return heads
    wanted: dict[str, object] = {"position_ids": model.position_ids, "position_range": model.position_range}
    if model.position_ids != "sequential" and model.position_limit is not None:
        # the other config's own limit is not that of the model
        wanted["max_positions"] = model.position_limit
        wanted["position_range"] = model.position_range or model.position_limit
    said = ((f"model.{k}", "null" if v is None else v) for k, v in wanted.items())
    return [*heads, *(f"{key}={value}" for key, value in said if key not in given)]


def _context(folder: Path, consent: Consent) -> int | None:
    """Longest sequence that a saved model takes, in tokens."""
    check_model_folder(folder, str(folder))
    with readable(str(folder)):
        return context_length(read_architecture(folder, trust_remote_code=consent.trust_remote_code))


def load_trained_model(found: TrainedModel) -> tuple[Any, TextCodec]:
    """The model, on the GPU if there is one, and its codec."""
    import torch

    if faults := arithmetic_faults():
        raise ConfigError(faults)
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of the "loading weights" kind
    check_model_folder(found.folder, str(found.folder))
    code = found.consent.trust_remote_code
    with readable(str(found.folder)):
        if (found.folder / MANIFEST).is_file():
            verify(found.folder)
        codec = load_codec(found.folder, found.config, trust_remote_code=code)
        if (found.folder / "adapter_config.json").is_file():
            model: Any = _with_adapters(found, codec)
        else:
            _check_weights(found)
            model = load_weights(
                found.folder,
                str(found.folder),
                config=read_architecture(found.folder, trust_remote_code=code),
                use_safetensors=True if found.consent.use_safetensors else None,
                trust_remote_code=code,
            )
    _check_tokens(found, codec, model)
    decode_greedily(model, codec)  # as the cross-check of exact match does
    require_policies(found.config.model, model)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), codec


def _check_weights(found: TrainedModel) -> None:
    if not found.consent.use_safetensors or any(found.folder.glob("model*.safetensors")):
        return
    fault = f"{found.folder} cannot be loaded: it has no weights in safetensors (model.safetensors)"
    if any(found.folder.glob("pytorch_model*.bin")):
        fault += "; it has a pytorch_model.bin, and model.use_safetensors false takes that"
    raise ConfigError([fault])


def _check_tokens(found: TrainedModel, codec: TextCodec, model: Any) -> None:
    if codec.vocab_size > (rows := model.get_input_embeddings().weight.shape[0]):
        raise ConfigError(
            [
                f"{found.folder} cannot be loaded: its tokenizer has {codec.vocab_size} ids, its "
                f"embedding {rows} rows; they are not of one model"
            ]
        )


def _with_adapters(found: TrainedModel, codec: TextCodec) -> Any:
    """The base model of a run, as it was when the run began, with saved adapters."""
    assert found.trained is not None, "adapters belong to a run"
    base = found.consent.applied(found.trained.model)
    start = open_base_checkpoint(base, recorded_checkpoint(found.run).get("commit"))
    if faults := [f for _, f in length_faults(found.config, start.limit, "the context of its base is")]:
        raise ConfigError(faults)
    return load_adapted(load_base(base, start, codec.vocab_size), found.folder)


def tests_of(found: TrainedModel, codec: TextCodec, model: Any) -> TestSets:
    """The test sets that a model is evaluated on."""
    return prepare_tests(
        found.config,
        codec,
        found.trained,
        recorded=recorded_data(found.run),
        limit=context_length(model.config),
        progress=True,
    )

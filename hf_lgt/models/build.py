"""Models to train: a model trained from scratch, a checkpoint's weights, or its random twin."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from data_builders.sampling import stream
from hf_lgt.config.schema import ModelConfig, short
from hf_lgt.data.codec import TextCodec
from hf_lgt.models.base_checkpoint import BaseCheckpoint, check_vocabulary
from hf_lgt.models.families import new_model
from hf_lgt.models.forward import check_positions, inference
from hf_lgt.models.heads import require_halves
from hf_lgt.models.readable import readable
from hf_lgt.models.resolve import fetch_weights
from hf_lgt.models.weights import load_weights
from hf_lgt.utils.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def build_model(config: ModelConfig, codec: TextCodec, seed: int) -> PreTrainedModel:
    """A causal language model of given sizes with random weights, on the CPU.

    Args:
        config: sizes and position encoding.
        codec: gives the vocabulary.
        seed: the initialisation seed; torch's global generator is left as it was.

    Raises:
        ConfigError: it would not fit into memory; or transformers has no such family, or none of these sizes;
            or a policy of positions or heads is one that it cannot follow.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = new_model(config, codec)
    require_policies(config, model)
    model.to(getattr(torch, config.dtype))
    return model


def build_from_checkpoint(
    config: ModelConfig, start: BaseCheckpoint, codec: TextCodec, seed: int
) -> PreTrainedModel:
    """A checkpoint's model, or its random twin, with a row for each token of the codec, on the CPU.

    The embedding only grows. Rows of tokens that the checkpoint's tokenizer lacked are drawn, coordinate
    by coordinate, from a normal distribution with the mean and standard deviation of the rows that it
    has; so are those of the output where it is a matrix of its own.

    Args:
        config: `init` says whether the weights are the checkpoint's, `dtype` what they are kept in.
        start: the checkpoint.
        codec: made from its tokenizer.
        seed: the initialisation seed; torch's global generator is left as it was.

    Raises:
        ConfigError: the weights cannot be read, or are not those of this architecture or tokenizer; or a
            policy of positions or heads is one that the model cannot follow.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if config.init == "random":
            model = _random_twin(config, start, codec)
        else:
            check_vocabulary(start.checkpoint, codec.inherited, _rows(start.config))
            # rows are only added, as resizing to the tokenizer's length would cut a padded vocabulary
            model = load_base(config, start, codec.vocab_size)
    if config.init != "random":
        _draw_rows(model, codec, seed)
    decode_greedily(model, codec)
    require_policies(config, model)
    return model


def decode_greedily(model: Any, codec: TextCodec) -> None:
    """Let ``generate`` decode greedily up to the end token that training used.

    A checkpoint may come with sampling, penalties or another end token in its ``generation_config.json``,
    which would be saved with the trained weights and change what they write.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=codec.bos_id, eos_token_id=codec.eos_id, pad_token_id=codec.pad_id, do_sample=False
    )
    for config in (model.config, model.config.get_text_config()):
        config.bos_token_id, config.eos_token_id = codec.bos_id, codec.eos_id


def require_policies(config: ModelConfig, model: Any) -> None:
    """Refuse a model that cannot follow the config's policies of positions and heads.

    Raises:
        ConfigError: it takes no position IDs, or does not use them; or its heads are not known.
    """
    require_halves(config.role_heads, model)
    if config.position_ids == "sequential":
        return
    try:
        check_positions(model)
    except ValueError as error:
        raise ConfigError(
            [f"model.position_ids: {config.position_ids!r} is not for this model: {error}; take 'sequential'"]
        ) from None


def _rows(config: Any) -> int:
    """Rows of a checkpoint's embedding, 0 where its config does not say."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else 0


def load_base(config: ModelConfig, start: BaseCheckpoint, rows: int) -> PreTrainedModel:
    """A checkpoint's model with at least so many rows, for adapters that hold those of added tokens.

    Raises:
        ConfigError: see `build_from_checkpoint`.
    """
    model = _pretrained(config, start)
    embedding: Any = model.get_input_embeddings()
    if rows > embedding.weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    return model


def _pretrained(config: ModelConfig, start: BaseCheckpoint) -> PreTrainedModel:
    """The weights as they are saved, every one of them."""
    import torch

    model = load_weights(
        fetch_weights(start.checkpoint, config),
        *start.checkpoint.told,
        config=start.config,
        dtype=getattr(torch, config.dtype),
        use_safetensors=True if config.use_safetensors else None,
        trust_remote_code=config.trust_remote_code,
    )
    _check_decoder(model, start)
    _freeze_all_but_text(model)
    return model  # type: ignore[no-any-return]


def _random_twin(config: ModelConfig, start: BaseCheckpoint, codec: TextCodec) -> PreTrainedModel:
    """The checkpoint's architecture with random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    sizes = type(start.config).from_dict(start.config.to_dict())
    check_vocabulary(start.checkpoint, codec.inherited, rows := _rows(sizes))
    sizes.get_text_config().vocab_size = max(rows, codec.vocab_size)
    with readable(*start.checkpoint.told):
        # drawn in float32, so that twins of both types have the same weights up to floating-point error
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            sizes, dtype=torch.float32, trust_remote_code=config.trust_remote_code
        )
    _check_decoder(model, start)
    _freeze_all_but_text(model)
    return model.to(getattr(torch, config.dtype))  # type: ignore[no-any-return]


def _check_decoder(model: Any, start: BaseCheckpoint) -> None:
    """Refuse a model that cannot give logits at chosen positions, or that reads ahead.

    What reads ahead, as RoBERTa does under its name of a causal model, would see the answers.
    """
    import torch

    what = f"model.name_or_path: {type(model).__name__}, the model of {short(start.checkpoint.name)},"
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise ConfigError(
            [f"{what} cannot give logits at chosen positions (logits_to_keep), which training here needs"]
        )
    rows = model.get_input_embeddings().weight.shape[0]
    # two texts that differ in their last token alone, one by one: that gives the same bits
    texts = [torch.tensor([[0, 1, 2, 1, last]]) % rows for last in (2, 3)]
    with readable(*start.checkpoint.told), inference(model):
        one, two = (model(input_ids=ids, use_cache=False).logits[0, :-1].float() for ids in texts)
    close = (1e-4 if model.dtype == torch.float32 else 1e-2) * float(one.std())
    if not torch.allclose(one, two, rtol=0, atol=close, equal_nan=True):
        raise ConfigError([f"{what} is no causal language model: it reads the tokens that it is to predict"])


def _freeze_all_but_text(model: Any) -> None:
    """Leave what a model has for pictures or sound as it is: text gives it no gradient."""
    if model.config.get_text_config() is model.config:
        return
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    kept = {id(p) for part in parts if part is not None for p in part.parameters()}
    for p in model.parameters():
        p.requires_grad_(id(p) in kept)


def _draw_rows(model: PreTrainedModel, codec: TextCodec, seed: int) -> None:
    """Draw the rows of added tokens, input and, where it is another matrix, output."""
    import torch

    weight: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    matrices = {"input": weight}
    output: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if output is not None and output.weight is not weight:
        matrices["output"] = output.weight
    if not codec.added:
        return
    for name, matrix in matrices.items():
        known = matrix.detach()[: codec.inherited].double()
        shape = len(codec.added), matrix.shape[1]
        normal = torch.from_numpy(stream(seed, "new rows", name).standard_normal(shape))
        rows = known.mean(dim=0) + known.std(dim=0) * normal
        with torch.no_grad():
            matrix[list(codec.added)] = rows.to(matrix.dtype)


def parameter_count(model: Any) -> int:
    """Parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())

"""Networks trained from scratch: three families with sizes and positions of the config, and any other that
transformers has (https://huggingface.co/docs/transformers/model_doc/auto).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from hf_lgt.config.schema import ModelConfig, short
from hf_lgt.data.codec import TextCodec
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.memory import BYTES, require

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def new_model(config: ModelConfig, codec: TextCodec) -> PreTrainedModel:
    """A network of a config's family and sizes, with weights drawn from torch's global generator.

    Returns:
        `LlamaForCausalLM`, `GPTNeoXForCausalLM`, `BloomForCausalLM`, or what transformers has for another
        family. A Llama without positions is a `SmolLM3ForCausalLM`, the same network with a switch that turns
        them off in every layer.

    Raises:
        ConfigError: it would not fit into memory; or there is no such family, or none of these sizes.
    """
    layers, width, inner = config.layers, config.hidden_size, config.intermediate_size
    of = f"model: {layers} layers of hidden_size {width} and intermediate_size {inner}"
    if config.architecture not in _FAMILIES:
        return _other(config, _sizes(config, codec), of)
    least = codec.vocab_size * width + layers * 2 * width * (width + inner)  # none of them has fewer weights
    require(BYTES * least, of)
    return _FAMILIES[config.architecture](config, _sizes(config, codec))


def _other(config: ModelConfig, sizes: dict[str, Any], of: str) -> PreTrainedModel:
    """A network of any family, of the sizes that it knows and what ``model.config`` says beside them."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        own = family_config(config, sizes)
        with torch.device("meta"):
            weights = AutoModelForCausalLM.from_config(own).num_parameters()  # type: ignore[no-untyped-call]
        require(BYTES * weights, of)
        made: PreTrainedModel = AutoModelForCausalLM.from_config(own)  # type: ignore[no-untyped-call]
        _try(made)
    except ConfigError:
        raise
    except Exception as error:  # each family checks its sizes in ways of its own
        told = f"{type(error).__name__}: {error}"
        raise ConfigError(
            [f"model.architecture: {config.architecture!r} cannot be made of these sizes: {told[:300]}"]
        ) from None
    return made


def family_config(config: ModelConfig, sizes: dict[str, Any]) -> PretrainedConfig:
    """The config of a family, as transformers has it.

    Raises:
        ConfigError: there is no such family of causal language models, or it has no such key.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    from hf_lgt.models import looped

    kind, known = config.architecture, {*KNOWN, looped.KIND}
    if kind not in known:
        close = difflib.get_close_matches(kind, known, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ConfigError([f"model.architecture: transformers has no {short(kind)}{hint}"])
    usual = AutoConfig.for_model(kind)
    # its data alone: an attribute as `_attn_implementation` may name code on the Hub
    data = usual.to_dict().keys() - {"model_type"}
    if unknown := [key for key in config.config if key not in data]:
        raise ConfigError([f"model.config: {kind} has no key {short(key)}" for key in unknown])
    own = {**sizes, "num_key_value_heads": config.kv_heads or config.heads}
    if hasattr(usual, "rope_parameters"):
        own["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_theta}
    # sizes that a family does not know by these names would stand in its config, and mean nothing
    used = {key: value for key, value in own.items() if hasattr(usual, key)}
    return AutoConfig.for_model(kind, **{**used, **config.config})


def _try(model: Any) -> None:
    """Run a network on a short text, so that sizes that do not fit are found before anything is written."""
    import torch

    with torch.no_grad():
        model.eval()(input_ids=torch.zeros(1, 3, dtype=torch.int64), use_cache=False)
    model.train()


def _sizes(config: ModelConfig, codec: TextCodec) -> dict[str, Any]:
    """What the families' configs share."""
    return {
        "vocab_size": codec.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.position_limit,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_embeddings,
        # none is borrowed here: an embedding keeps the row of its padding token at zero
        "pad_token_id": codec.tokenizer.pad_token_id,
        "bos_token_id": codec.bos_id,
        "eos_token_id": codec.eos_id,
    }


def _llama(config: ModelConfig, sizes: dict[str, Any]) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

    sizes = {**sizes, "num_key_value_heads": config.kv_heads or config.heads}
    sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.positions == "rope":
        return LlamaForCausalLM(LlamaConfig(**sizes))
    return SmolLM3ForCausalLM(SmolLM3Config(**sizes, no_rope_layers=[0] * config.layers))


def _gpt_neox(config: ModelConfig, sizes: dict[str, Any]) -> PreTrainedModel:
    """Rotates a quarter of each head, as Pythia does (arXiv 2304.01373)."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    rope = {"rope_type": "default", "rope_theta": config.rope_theta, "partial_rotary_factor": 0.25}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, rope_parameters=rope))


def _bloom(config: ModelConfig, sizes: dict[str, Any]) -> PreTrainedModel:
    """The network with linear biases of attention (ALiBi, Press et al. 2022, arXiv 2108.12409).

    It differs from a Llama in more than its positions: LayerNorm, also on the embeddings, where Llama has
    RMSNorm; a GELU feed-forward layer of two matrices, 4 x hidden_size wide, where Llama's has three and
    SiLU gates; and biases in every linear layer. So a comparison with RoPE or NoPE compares these too.

    The bias is added as slope x place of the key. bfloat16 holds integers to 256 exactly: beyond, with
    ``train.precision bf16``, near places get one bias.
    """
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(**sizes))


_FAMILIES = {"llama": _llama, "gpt_neox": _gpt_neox, "bloom": _bloom}
"""those whose sizes the config checks itself"""

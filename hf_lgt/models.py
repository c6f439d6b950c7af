"""Models to train: a model of its own with random weights, a checkpoint's weights, or its random twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_lgt.codec import TextCodec
from hf_lgt.config import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_model(config: ModelConfig, codec: TextCodec, seed: int) -> PreTrainedModel:
    """A causal language model of its own sizes with random weights, on the CPU.

    Args:
        config: sizes and position encoding.
        codec: gives the vocabulary.
        seed: the initialisation seed; torch's global generator is left as it was.

    Returns:
        `LlamaForCausalLM` or `GPTNeoXForCausalLM`. A Llama without positions is a
        `SmolLM3ForCausalLM`, the same network with a switch that turns them off in every layer.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = _FAMILIES[config.architecture](config, _sizes(config, codec))
    model.to(getattr(torch, config.dtype))
    return model


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
        "pad_token_id": codec.pad_id,
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


_FAMILIES = {"llama": _llama, "gpt_neox": _gpt_neox}


def parameter_count(model: Any) -> int:
    """Parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())

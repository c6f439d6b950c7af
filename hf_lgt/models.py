"""Models to train: random-init decoders with rotary or no position encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_lgt.codec import TextCodec
from hf_lgt.config import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_model(config: ModelConfig, codec: TextCodec, seed: int) -> PreTrainedModel:
    """A causal language model with random weights, in float32 on the CPU.

    Args:
        config: sizes and position encoding.
        codec: gives the vocabulary.
        seed: the initialisation seed; torch's global generator is left as it was.

    Returns:
        `LlamaForCausalLM` for rotary positions. Without positions `SmolLM3ForCausalLM`, the same
        network with a switch that turns them off in every layer.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": codec.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "max_position_embeddings": config.max_positions,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_embeddings,
        "pad_token_id": codec.pad_id,
        "bos_token_id": codec.bos_id,
        "eos_token_id": codec.eos_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if config.positions == "rope":
            model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**sizes))
        else:
            model = SmolLM3ForCausalLM(SmolLM3Config(**sizes, no_rope_layers=[0] * config.layers))
    return model


def parameter_count(model: Any) -> int:
    """Parameters, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())

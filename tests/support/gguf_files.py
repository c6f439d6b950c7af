"""Tiny GGUF files of random models, as a converter of llama.cpp writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support import checkpoints

KINDS = ("llama", "qwen2")


def model(kind: str, seed: int = 0) -> Any:
    """A model of an architecture with random weights; rows are blocks of 32, as quantisations need them."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    if kind == "llama":
        return checkpoints.model("smollm", seed, hidden_size=64, intermediate_size=96)
    config = Qwen2Config(
        vocab_size=checkpoints.rows_of("smollm"), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=checkpoints.CONTEXT,
        rope_theta=1e4, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config)


def quantized(weight: np.ndarray, quantization: str) -> np.ndarray:
    """What is left of a matrix after a quantisation, as float32."""
    from gguf import GGMLQuantizationType, quants

    kind = GGMLQuantizationType[quantization]
    return quants.dequantize(quants.quantize(weight, kind), kind)


def write(path: Path, kind: str = "llama", quantization: str = "Q8_0", seed: int = 0, **leave: Any) -> Any:
    """Write a model's file and give the model.

    Args:
        path: of the file.
        kind: its architecture.
        quantization: of its matrices; vectors stay in float32.
        seed: draws its weights.
        leave: ``architecture``: another name for it; ``layers``: another number of them; ``drop``: a part of
            the names of tensors to leave out.
    """
    from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, get_tensor_name_map, quants

    made = model(kind, seed)
    sizes = made.config
    writer = GGUFWriter(path, leave.get("architecture", kind))
    writer.add_name("tiny")
    writer.add_block_count(leave.get("layers", sizes.num_hidden_layers))
    writer.add_context_length(sizes.max_position_embeddings)
    writer.add_embedding_length(sizes.hidden_size)
    writer.add_feed_forward_length(sizes.intermediate_size)
    writer.add_head_count(sizes.num_attention_heads)
    writer.add_head_count_kv(sizes.num_key_value_heads)
    writer.add_layer_norm_rms_eps(sizes.rms_norm_eps)
    writer.add_rope_freq_base(1e4)
    writer.add_rope_dimension_count(sizes.hidden_size // sizes.num_attention_heads)
    writer.add_vocab_size(sizes.vocab_size)
    _add_tokenizer(writer)
    names = get_tensor_name_map(MODEL_ARCH[kind.upper()], sizes.num_hidden_layers)
    for name, tensor in made.state_dict().items():
        if (name == "lm_head.weight" and sizes.tie_word_embeddings) or leave.get("drop", "\0") in name:
            continue
        weight = tensor.numpy()
        if kind == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = sizes.num_attention_heads if "q_proj" in name else sizes.num_key_value_heads
            halves = weight.reshape(heads, 2, len(weight) // heads // 2, -1)
            weight = halves.swapaxes(1, 2).reshape(weight.shape)
        own = GGMLQuantizationType[quantization if weight.ndim == 2 else "F32"]
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight", ".bias")),
            quants.quantize(weight, own),
            raw_dtype=own,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _add_tokenizer(writer: Any) -> None:
    core = json.loads(checkpoints.core("smollm"))
    vocabulary = core["model"]["vocab"]
    merges = [" ".join(pair) for pair in core["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocabulary, key=lambda token: vocabulary[token]))
    writer.add_token_types(
        [3 if token.startswith("<|") else 1 for token in sorted(vocabulary, key=vocabulary.get)]
    )
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)

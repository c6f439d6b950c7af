"""Tiny checkpoints in the shape of published ones, with byte-level BPE tokenizers that learned merges."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data_builders.symbols import CHARACTERS
from hf_lgt.config.files import set_key
from hf_lgt.config.load import config_from_dict

END = "<|endoftext|>"
KINDS = ("smollm", "pythia", "gpt2")
CONTEXT = 512
MIXTURE = [
    {"task": "reverse_add", "role": "target", "lengths": [1, 3]},
    {"task": "no_carry", "role": "auxiliary", "lengths": [1, 4]},
]
MAZE = [
    {"task": "shortest_path", "role": "target", "lengths": [2, 4], "options": {"side": 4}},
]


def documents() -> list[str]:
    """Sums and words, so that digits and letters merge where a tokenizer lets them; the same each time."""
    drawn = random.Random(0)
    words = ["the", "length", "generalizes", "reverse", "Addition", "of", "naïve", "copies", "PATH"]
    lines = []
    for _ in range(300):
        lines.append(" ".join(drawn.choices(words, k=6)) + ".")
        lines.append(f"{drawn.randrange(100)}75+86{drawn.randrange(10)}=2024 <x>[12];[1]")
    return lines


@cache
def core(kind: str) -> str:
    """A trained tokenizer as JSON: single digits for SmolLM2, merged ones for Pythia and GPT-2."""
    made = Tokenizer(models.BPE())
    parts: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    specials = [END]
    if kind == "smollm":
        parts.insert(0, pre_tokenizers.Digits(individual_digits=True))
        specials += ["<|im_start|>", "<|im_end|>"]
    if kind == "pythia":
        made.normalizer = normalizers.NFC()
        specials += ["<|padding|>"]
    made.pre_tokenizer = pre_tokenizers.Sequence(parts)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=[] if kind == "gpt2" else specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(documents(), trainer)
    if kind == "gpt2":
        made.add_special_tokens([END])  # its last id there
    if kind == "pythia":
        made.add_tokens([AddedToken(" " * n, normalized=True) for n in (8, 4, 2)])
    return str(made.to_str())


def tokenizer(kind: str):
    """The checkpoint's tokenizer as transformers has it."""
    from transformers import PreTrainedTokenizerFast

    named = {"bos_token": END, "eos_token": END, "unk_token": END}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(core(kind)), **named)


def rows_of(kind: str) -> int:
    """Rows of the embedding; Pythia's are more than its tokenizer has."""
    size = Tokenizer.from_str(core(kind)).get_vocab_size()
    return size + 17 if kind == "pythia" else size


def model(kind: str, seed: int = 0, **sizes: Any):
    """A model with random weights, its rows unlike each other and of a mean that is not zero."""
    from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig

    shared = {"vocab_size": rows_of(kind), "bos_token_id": 0, "eos_token_id": 0}
    if kind == "smollm":
        config: Any = LlamaConfig(
            **{**shared, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
               "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
               "tie_word_embeddings": True, "initializer_range": 0.2, **sizes}
        )  # fmt: skip
    elif kind == "pythia":
        config = GPTNeoXConfig(
            **{**shared, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
               "num_attention_heads": 4, "max_position_embeddings": CONTEXT, "tie_word_embeddings": False,
               "initializer_range": 0.2, **sizes}
        )  # fmt: skip
    else:
        last = shared["vocab_size"] - 1
        config = GPT2Config(
            **{**shared, "bos_token_id": last, "eos_token_id": last, "n_embd": 32, "n_layer": 2, "n_head": 4,
               "n_positions": CONTEXT, "initializer_range": 0.2, **sizes}
        )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: Any = AutoModelForCausalLM.from_config(config)
        for i, layer in enumerate([made.get_input_embeddings(), made.get_output_embeddings()]):
            layer.weight.data += torch.linspace(-1, 1, layer.weight.shape[1]) * (i + 1) / 4
    return made


def write(folder: Path, kind: str = "smollm", seed: int = 0, **sizes: Any) -> Path:
    """A checkpoint's folder, as one finds it on the Hub."""
    made = model(kind, seed, **sizes)
    made.save_pretrained(folder)
    write_tokenizer(folder, kind)
    return folder


def write_tokenizer(folder: Path, kind: str) -> None:
    """The tokenizer's files; `tokenizer_config.json` names the class that the published one does."""
    tokenizer(kind).save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings["tokenizer_class"] = "GPTNeoXTokenizer" if kind == "pythia" else "GPT2Tokenizer"
    settings["model_max_length"] = CONTEXT
    file.write_text(json.dumps(settings))
    if kind != "pythia":
        Tokenizer.from_str(core(kind)).model.save(str(folder))


def settings(name: str | Path, out: Path, *overrides: str) -> dict[str, Any]:
    """A config of a few steps from a checkpoint, as plain data."""
    data: dict[str, Any] = {
        "name": "tiny",
        "output_dir": str(out),
        "model": {"init": "pretrained", "name_or_path": str(name)},
        "mixture": [{**component} for component in MIXTURE],
        "train": {
            "steps": 4, "batch_size": 8, "learning_rate": 3e-3, "warmup": 0.0, "log_every": 1,
            "eval_every": 2, "save_every": 2,
        },
        "eval": {"lengths": [1, 4], "examples": 6, "mistakes": 0},
    }  # fmt: skip
    for override in overrides:
        assert set_key(data, override) is None, override
    return data


def config(name: str | Path, out: Path, *overrides: str):
    """The checked config of `settings`."""
    return config_from_dict(settings(name, out, *overrides))


def without_characters() -> str:
    """A small word-level tokenizer that has no capitals, no '+' and no nodes, as JSON."""
    known = [c for c in CHARACTERS if c not in "+ABC"]
    vocabulary = {text: i for i, text in enumerate(["<unk>", "</s>", *known])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    made.add_special_tokens(["<unk>", "</s>"])
    return str(made.to_str())

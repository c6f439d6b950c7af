"""A text of a few pages and the settings of a model that is pretrained on it in seconds."""

import random
from pathlib import Path

from hf_lgt.pretraining.config import load_pretrain_config
from tests.conftest import ROOT

RECIPE = ROOT / "recipes" / "pretrained_demo" / "pretrain.yaml"
SMALL = [
    "name=tiny",
    "model.layers=1",
    "model.hidden_size=16",
    "model.heads=2",
    "model.intermediate_size=32",
    "text.source=files",
    "text.validation_share=0.2",
    "tokenizer.vocab_size=300",
    "sequence_length=16",
    "validation_sequences=8",
    "train.steps=12",
    "train.batch_size=4",
    "train.log_every=4",
    "train.eval_every=3",
    "train.save_every=6",
    "revisions=[0,6]",
]


def write_text(folder: Path, documents: int = 20) -> Path:
    """Write documents of sums and words, the same each time; gives their folder."""
    drawn = random.Random(0)
    words = [
        "naïve",
        *("".join(drawn.choices("abcdefghiklmnoprstu", k=drawn.randint(2, 7))) for _ in range(80)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(documents):
        lines = [f"{drawn.randrange(9)}75+1{drawn.randrange(100)}=2024 " for _ in range(6)]
        lines += [" ".join(drawn.choices(words, k=8)) + "\n" for _ in range(6)]
        (folder / f"{i:02d}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def tiny_config(out: Path, *overrides: str):
    """The config of a model below `out`, on a text that is written there too."""
    text = write_text(out / "text")
    return load_pretrain_config(
        RECIPE, [*SMALL, f"text.files=['{text}']", f"output_dir={out / 'pretrained'}", *overrides]
    )

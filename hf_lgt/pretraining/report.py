"""What a user sees of a pretraining: a table, a figure, and the card of each revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from hf_lgt.pretraining.config import PretrainConfig
from hf_lgt.pretraining.validation import ValidationMeasurement
from hf_lgt.report.figures import COLORS, TARGET_COLOR, new_figure, save_figure
from hf_lgt.report.tables import STYLE
from hf_lgt.utils import yaml

FIGURE = "validation.png"
AGAIN = "hf_lgt.pretraining.report.write_figure draws it"
"""for a warning"""
_CARD = """---
{metadata}
---

# {name}, step {step} of {steps}

A small causal language model that `hf_lgt` pretrained from random weights on a few megabytes of text. It
stands in for a large pretrained checkpoint where none can be fetched; it knows little and is of no other
use.

- architecture: {architecture}, {layers} layers, hidden size {hidden_size}, {heads} heads
- tokenizer: byte-level BPE of its own, {vocab_size} tokens, {digits}
- text: {text}
- trained on {tokens:,} tokens so far; the learning rate falls at the end of training only, so an
  intermediate revision is no model that was trained for fewer steps
- validation loss {loss:.4f} nats a token, {bits:.4f} bits a byte

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

path = "."  # this folder, or the repository's name on the Hub, then with revision="step-{step}"
tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
```

## Config

```yaml
{config}```
"""
_DIGITS = {"single": "each digit is a token", "merged": "frequent numbers are tokens"}
_SOURCES = {
    "python": "sources of Python's standard library and documentation of installed packages",
    "files": "text files",
    "dataset": "a dataset",
}


def revision_card(config: PretrainConfig, about: Mapping[str, Any], measured: ValidationMeasurement) -> str:
    """The README.md of one revision: Markdown with metadata.

    Args:
        config: of the pretraining.
        about: what ``text.json`` holds.
        measured: the revision's own numbers.
    """
    from huggingface_hub import ModelCardData

    on_hub = about.get("revision") is not None
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["hf_lgt", "pretraining"],
        datasets=[str(config.text.path)] if on_hub else None,
        model_name=config.name,
    )
    source = (
        f"`{config.text.path}` at revision `{about['revision']}`" if on_hub else _SOURCES[about["source"]]
    )
    return _CARD.format(
        metadata=metadata.to_yaml(),
        name=config.name,
        step=measured.step,
        steps=config.train.steps,
        architecture=config.model.architecture,
        layers=config.model.layers,
        hidden_size=config.model.hidden_size,
        heads=config.model.heads,
        vocab_size=config.tokenizer.vocab_size,
        digits=_DIGITS[config.tokenizer.digits],
        text=f"{source}; {about['documents']:,} documents, {about['characters']:,} characters",
        tokens=measured.tokens,
        loss=measured.validation_loss,
        bits=measured.bits_per_byte,
        config=yaml.dump(public_pretrain_config(config, about)),
    )


def public_pretrain_config(config: PretrainConfig, about: Mapping[str, Any]) -> dict[str, Any]:
    """The config as others may see it: without folders of somebody's disk."""
    shown = config.to_dict()
    del shown["output_dir"]
    text = shown["text"]
    text["files"] = [Path(entry).name for entry in text["files"]]
    if text["path"] is not None and about.get("revision") is None:
        text["path"] = Path(text["path"]).name
    return shown


def validation_table(config: PretrainConfig, measured: Sequence[ValidationMeasurement]) -> str:
    """A row for each revision, in Markdown."""
    rows = [
        [_revision(config, m.step), f"{m.tokens:,}", f"{m.validation_loss:.4f}", f"{m.bits_per_byte:.4f}"]
        for m in measured
        if m.step in config.kept_steps
    ]
    headers = ["revision", "tokens", "validation loss (nats/token)", "bits per byte"]
    return tabulate(rows, headers, tablefmt=STYLE, disable_numparse=True, colalign=("left", *["right"] * 3))


def _revision(config: PretrainConfig, step: int) -> str:
    return f"step-{step}" + (" = main" if step == config.train.steps else "")


def write_figure(config: PretrainConfig, measured: Sequence[ValidationMeasurement], folder: Path) -> Path:
    """Draw the validation loss by step, the revisions marked."""
    figure, (axes,) = new_figure(5.2, 3.6)
    from matplotlib.ticker import MaxNLocator

    axes.plot([m.step for m in measured], [m.validation_loss for m in measured], color=COLORS[0], lw=1.6)
    kept = [m for m in measured if m.step in config.kept_steps]
    axes.plot(
        [m.step for m in kept],
        [m.validation_loss for m in kept],
        color=TARGET_COLOR, ls="", marker="o", ms=5, label="revisions", zorder=3,
    )  # fmt: skip
    for m in kept:
        axes.annotate(
            f"{m.step}", (m.step, m.validation_loss), (3, 4), textcoords="offset points", fontsize=7
        )
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("validation loss (nats/token)")
    axes.set_title(config.name, fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper right", fontsize=8)
    return save_figure(figure, folder / FIGURE)

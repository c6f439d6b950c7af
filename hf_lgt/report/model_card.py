"""The README.md of a saved model."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import ModelCardData

from data_builders import get_task
from hf_lgt import yaml12
from hf_lgt.config import Config
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.report.tables import length_table, summary_lines

PAPER = "https://arxiv.org/abs/2506.09251"
_CARD = """---
{metadata}
---

# {name}

A {layers}-layer causal language model trained with `hf_lgt` to see whether its target task
extrapolates to lengths that only its auxiliary tasks were trained on, as in
[Extrapolation by Association: Length Generalization Transfer in Transformers]({paper}).

## Tasks

{tasks}

## Exact match by length

{table}

{summary}

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path)
prompt = tokenizer("{prompt}", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64)[0], skip_special_tokens=True))
```

## Config

```yaml
{config}```
"""


def model_card(config: Config, records: Sequence[EvalRecord]) -> str:
    """Markdown with metadata: tasks, results by length, use, config.

    Args:
        config: the run's config.
        records: of its last evaluation.
    """
    import numpy as np

    tasks, prompt = [], ""
    for component in config.build_mixture().components:
        task = get_task(component.task)
        sample = task.sample(np.random.default_rng(0), max(4, task.min_length), 1, **component.options)
        question, answer = sample.text()[0]
        low, high = component.lengths
        tasks.append(
            f"- `{task.name}` ({component.role}, trained on lengths {low} to {high}, counted in "
            f"{task.length_unit}): {task.summary} Example: `{question}` → `{answer}`"
        )
        prompt = prompt or (f"<{task.name}>" if config.data.tags else "") + question
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["hf_lgt", "length-generalization"],
        model_name=config.name,
    )
    return _CARD.format(
        metadata=metadata.to_yaml(),
        name=config.name,
        layers=config.model.layers,
        paper=PAPER,
        tasks="\n".join(tasks),
        table=length_table(config, records),
        summary="\n".join(f"- {line}" for line in summary_lines(config, records)),
        prompt=prompt,
        config=yaml12.dump(config.to_dict()),
    )

"""A Llama whose blocks are applied again and again, as often as the prompt is long (``model.architecture:
looped_llama``; Fan et al. 2024, arXiv 2409.15647).

In each loop the embeddings are added to what the last one gave, as there. Importing this module lets the Auto
classes of transformers know the family, so that a saved model is opened as any other.
"""

# the classes that it extends have no types of their own
# mypy: disable-error-code="no-untyped-call,override,misc"

from __future__ import annotations

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import LlamaModel

KIND = "looped_llama"


@strict
class LoopedConfig(LlamaConfig):
    """A Llama's, and how often its blocks are applied: ``loops_per_token`` x prompt tokens, rounded up,
    at least 1 and at most ``most_loops``.
    """

    model_type = KIND

    loops_per_token: float = 0.5
    most_loops: int = 64

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.use_cache = False  # what a loop reads of a token is not what the next one does

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if not self.loops_per_token > 0 or self.most_loops < 1:
            raise ValueError(
                f"loops_per_token must be above 0 and most_loops at least 1, not {self.loops_per_token} and "
                f"{self.most_loops}"
            )


class LoopedModel(LlamaModel):
    """The blocks of a Llama, looped."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        prompt_tokens: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """As a Llama's; ``prompt_tokens``, int64 [b], is each row's number of tokens before the answer, by
        default all of them.
        """
        given = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        width = given.shape[1]
        if position_ids is None:
            position_ids = torch.arange(width, device=given.device)[None]
        if prompt_tokens is None:
            prompt_tokens = torch.full((len(given),), width, device=given.device)
        loops = self.loops(prompt_tokens)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=given,
            attention_mask=attention_mask,
            past_key_values=None,
            position_ids=position_ids,
        )
        rotary = self.rotary_emb(given, position_ids=position_ids)
        hidden = torch.zeros_like(given)
        least, most = int(loops.min()), int(loops.max())
        for loop in range(most):
            through = hidden + given
            for layer in self.layers:
                through = layer(
                    through,
                    attention_mask=mask,
                    position_embeddings=rotary,
                    position_ids=position_ids,
                    use_cache=False,
                    **kwargs,
                )
            # rows of shorter prompts stay as they are
            hidden = through if loop < least else torch.where((loops > loop)[:, None, None], through, hidden)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden))

    def loops(self, prompt_tokens: torch.Tensor) -> torch.Tensor:
        """How often the blocks are applied to each row, int64 [b]."""
        wanted = torch.ceil(prompt_tokens * self.config.loops_per_token).long()
        return wanted.clamp(1, self.config.most_loops)


class LoopedForCausalLM(LlamaForCausalLM):
    """The looped blocks with a language model's head."""

    config_class = LoopedConfig

    def __init__(self, config: LoopedConfig) -> None:
        super().__init__(config)
        self.model = LoopedModel(config)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        prompt_tokens: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """As a Llama's, with `LoopedModel.forward`'s ``prompt_tokens``."""
        return super().forward(
            input_ids, prompt_tokens=prompt_tokens, logits_to_keep=logits_to_keep, **kwargs
        )

    def generate(self, inputs: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """As any model's; the number of loops is that of the prompt, however long the answer gets."""
        prompt = kwargs.get("input_ids") if inputs is None else inputs
        if prompt is not None and "prompt_tokens" not in kwargs:
            mask = kwargs.get("attention_mask")
            whole = torch.full((len(prompt),), prompt.shape[1], device=prompt.device)
            kwargs["prompt_tokens"] = whole if mask is None else mask.sum(dim=1)
        return super().generate(inputs, **{**kwargs, "use_cache": False})


AutoConfig.register(KIND, LoopedConfig, exist_ok=True)
AutoModelForCausalLM.register(LoopedConfig, LoopedForCausalLM, exist_ok=True)

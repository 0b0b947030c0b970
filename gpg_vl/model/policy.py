"""The trained model: its parts, saving, and the one forward that training wraps."""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import DynamicCache

from gpg_vl.model.adapters import has_adapter, save_adapter
from gpg_vl.model.attention import Prefix
from gpg_vl.model.compat import cache_argument
from gpg_vl.model.families.family import FULL, Family
from gpg_vl.model.flex import BLOCK, block_mask
from gpg_vl.model.holding import full_shape, save_model
from gpg_vl.model.importance import Importance
from gpg_vl.model.logprobs import Targets, VocabularyHead
from gpg_vl.model.masks import Sight, additive_mask
from gpg_vl.model.packing import PackedBatch, Row, collate
from gpg_vl.model.step import StepModel
from gpg_vl.model.step_kernels import PLAIN
from gpg_vl.model.vocabulary import ends_of_text, never_sampled
from gpg_vl.prompting.card import write_card
from gpg_vl.runtime.profiling import phase


class Policy(nn.Module):
    """A model with its processor (a text model's is its tokenizer). `forward` maps packed rows to
    log-probabilities."""

    def __init__(
        self, model: Any, processor: Any | None, family: Family, *, bf16: bool = False, flex: bool = False
    ) -> None:
        """`processor` is None where weights are only counted; `flex`: FlexAttention for packed rows."""
        super().__init__()
        self.model = model
        self.family = family
        self.processor: Any = processor
        self.bf16 = bf16
        self.flex = flex
        self._cache_argument = cache_argument(self.text_model)
        model.lm_head = VocabularyHead(model.lm_head)
        self._sights = family.sights(model.config.get_text_config())
        family.prepare(model)
        nothing = torch.zeros(0, dtype=torch.long, device=model.device)
        self.register_buffer("suppressed_ids", nothing, persistent=False)
        self.suppressed_ids: Tensor  # (s,) tokens that are never sampled
        if processor is not None:
            self.suppress(never_sampled(self.tokenizer, self.vocabulary, family))

    def suppress(self, token_ids: Iterable[int]) -> None:
        """Never sample these tokens either."""
        ids = torch.tensor(sorted({*self.suppressed_ids.tolist(), *token_ids}), dtype=torch.long)
        self.suppressed_ids = ids.to(self.device)

    @property
    def suppressed(self) -> Tensor:
        """(V,) bool: tokens that are never sampled."""
        mask = torch.zeros(self.vocabulary, dtype=torch.bool, device=self.device)
        return mask.index_fill_(0, self.suppressed_ids, True)

    @property
    def model_type(self) -> str:
        """The model's type, such as qwen2_vl."""
        return str(self.model.config.model_type)

    @property
    def takes_images(self) -> bool:
        """Whether it is a vision-language model."""
        return self.family.takes_images

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer if self.takes_images else self.processor

    @property
    def text_model(self) -> Any:
        return self.family.text_model(self.model)

    @property
    def vision_tower(self) -> Any:
        """The image encoder with its projection into the language model's width."""
        parts = self.family.vision_modules(self.model)
        return parts[0] if len(parts) == 1 else nn.ModuleList(parts)

    @property
    def has_adapter(self) -> bool:
        """Whether LoRA adapters stand beside the weights."""
        return has_adapter(self.model)

    @property
    def frozen_language(self) -> bool:
        """Whether nothing outside the vision tower is trained."""
        return not any(
            weight.requires_grad
            for weight in (*self.text_model.parameters(), *self.model.lm_head.parameters())
        )

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @property
    def layers(self) -> int:
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def device(self) -> torch.device:
        return self.suppressed_ids.device

    @property
    def token_cost(self) -> float:
        """Multiplications per token in the text layers, in units of one query-key pair per head."""
        config = self.model.config.get_text_config()
        weights = self.text_model.layers.named_parameters()
        parameters = sum(_read_per_token(name, weight, config) for name, weight in weights)
        return parameters / (2 * config.hidden_size * config.num_hidden_layers)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Ends of text from the generation config; the tokenizer's own where it names none."""
        return ends_of_text(self.model.generation_config, self.tokenizer)

    def collate(self, rows: Sequence[Row]) -> PackedBatch:
        """Rows as this policy reads them, on the CPU."""
        return collate(rows, BLOCK if self.flex else 1, forked=self.family.recurrent)

    @property
    def compute_dtype(self) -> torch.dtype:
        """What activations and caches are held in."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def autocast(self, *, cached: bool = True) -> contextlib.AbstractContextManager[Any]:
        """bf16 arithmetic over fp32 weights, where asked for; `cached` keeps bf16 copies of trained ones."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=cached)

    @phase("forward")
    def forward(
        self,
        batch: PackedBatch,
        temperature: float,
        known_slopes: Tensor | None = None,
        importance: Importance | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each target and entropy of its distribution: (M,), (M,), in nats.

        `known_slopes` (M,) are the loss's derivatives by the former, where they are known ahead, but for the
        weights of `importance`: `Targets`.
        """
        with self.autocast():
            hidden = self._read(batch).flatten(0, 1)[batch.predictors]  # (M, H)
            targets = Targets(batch.targets, temperature, self.suppressed_ids, known_slopes, importance)
            logprobs, entropies = self.model.lm_head(hidden, targets)
        return logprobs, entropies

    def _read(self, batch: PackedBatch, cache: DynamicCache | None = None) -> Tensor:
        """Last hidden states (R, S, H) of packed rows; keys and values go to `cache`."""
        embeds, extra = self.family.embed(self.model, batch)
        dtype = torch.bfloat16 if self.bf16 else embeds.dtype
        positions = self.family.positions(batch.position_ids)
        if batch.fork is not None:
            extra = extra | {"fork": batch.fork}
        hidden: Tensor = self.text_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=self._masks(batch, dtype),
            use_cache=cache is not None,
            **{self._cache_argument: cache},
            **extra,
        ).last_hidden_state
        return hidden

    def _masks(self, batch: PackedBatch, dtype: torch.dtype) -> Any:
        """What each kind of layer keeps apart, once for all of them; by name where there are several kinds.

        `dtype` is that of the arithmetic: a mask of another type, SDPA's CPU kernel reads as if it were.
        """
        masks = {kind: self._mask(batch, sight, dtype) for kind, sight in self._sights.items()}
        return masks[FULL] if list(masks) == [FULL] else masks

    def _mask(self, batch: PackedBatch, sight: Sight, dtype: torch.dtype) -> Tensor | BlockMask | None:
        tokens, images = batch.token_ids.shape[1], len(batch.image_slots) > 0
        if batch.causal and sight.is_causal(tokens, images=images):
            return None
        if self.flex and not batch.causal:  # whose rows have whole blocks
            return block_mask(batch.tree, sight)
        return additive_mask(batch.tree, dtype, sight)

    @phase("prefill")
    @torch.no_grad()
    def prefill(self, batch: PackedBatch, lengths: Tensor) -> tuple[Tensor, Prefix]:
        """Read B prompts of `lengths` (B,). Returns their last hidden states (B, H) and caches."""
        if self.family.recurrent:
            return self._prefill_apart(batch, lengths)
        cache = DynamicCache()
        with self.autocast(cached=False):  # every weight is read once
            hidden = self._read(batch, cache)
            last = hidden[torch.arange(len(lengths), device=self.device), lengths - 1]
        # Under autocast the rotary embedding leaves keys in fp32: twice the cache, and a cast per token.
        return last, Prefix.of(cache, lengths, self.compute_dtype)

    def _prefill_apart(self, batch: PackedBatch, lengths: Tensor) -> tuple[Tensor, Prefix]:
        """Prompts one by one: what is padded behind one would run on through its states."""
        found: list[tuple[Tensor, Prefix]] = []
        with self.autocast(cached=False):
            embeds, extra = self.family.embed(self.model, batch)
            assert not extra, "nothing stands beside the embeddings of a family with states"
            positions = self.family.positions(batch.position_ids)
            for row, length in enumerate(lengths.tolist()):
                cache, own = DynamicCache(config=self.text_model.config), slice(row, row + 1)
                hidden = self.text_model(
                    inputs_embeds=embeds[own, :length],
                    position_ids=positions[..., own, :length],
                    attention_mask=None,
                    use_cache=True,
                    **{self._cache_argument: cache},
                ).last_hidden_state
                found.append((hidden[:, -1], Prefix.of(cache, lengths[own], self.compute_dtype)))
        last, prefixes = zip(*found, strict=True)
        return torch.cat(last), reduce(Prefix.join, prefixes)

    def step_model(self, positions: int, *, fused: bool = False) -> StepModel:
        """The text model for single tokens, with its weights of now, at up to so many positions.

        `fused`: what stands between its products as Triton kernels.
        """
        places = self.family.positions(torch.arange(positions, device=self.device).expand(3, 1, -1))
        kernels = import_module("gpg_vl.model.fused").FUSED if fused else PLAIN
        return StepModel(self.text_model, self.model.lm_head, self.compute_dtype, places, kernels)

    def check_slopes(self) -> None:
        """Raise GpgError if slopes known ahead were not the loss's since the last call: `Targets`."""
        self.model.lm_head.check_slopes()

    def save(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Write weights, processor and `gpg_vl.json`; `from_pretrained` of transformers reads it."""
        if self.has_adapter:
            save_adapter(self.model, folder)
        else:
            save_model(self.model, folder)
        self.processor.save_pretrained(folder)
        write_card(folder, card)


def _read_per_token(name: str, weight: Any, config: Any) -> float:
    """Numbers of a weight that a token is multiplied with: of a stack of experts, those it goes through."""
    shape = full_shape(weight)
    share = config.num_experts_per_tok / shape[0] if ".experts." in name else 1.0  # (experts, out, in)
    return math.prod(shape) * share

"""What differs between families of models: the one question that an adapter answers."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gpg_vl.errors import ModelError
from gpg_vl.model.embedding import embedded
from gpg_vl.model.masks import Sight
from gpg_vl.model.packing import PackedBatch
from gpg_vl.model.vision import ImageFeatures
from gpg_vl.prompting.format import PromptFormat
from gpg_vl.runtime.profiling import phase

FULL, SLIDING = "full_attention", "sliding_attention"
"""transformers' names for kinds of layers."""
_FIXED_ROPE = ("default", "linear", "llama3", "yarn", "mrope", "proportional")
"""Rotary embeddings whose angles depend on the position alone. `dynamic` and `longrope` look at the length
of the sequence too, which in a packed row is not that of the answer."""


_UNSUPPORTED = ("final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention")
"""Settings of a text config with which it computes what packed rows and decoding do not."""


@dataclass(frozen=True)
class VisionSizes:
    """Widths of a vision tower, in numbers per patch."""

    layers: int
    width: int
    """Of the residual stream."""
    feed_forward: int
    """Inside the feed-forward part."""
    patch: tuple[int, int]
    """Height and width of a patch in pixels."""
    patches: int
    """Per image token."""
    frames: int = 1
    """Per patch."""
    gated: bool = False
    """RMS norms and a gated feed-forward part; else layer norms and two matrices."""
    joint: bool = False
    """Whether one matrix makes queries, keys and values."""
    inner: int = 2
    """Tensors as wide as the feed-forward part that a layer without gates keeps: what the activation reads
    and gives, and where it is a sigmoid times its input one more."""
    scaled: bool = False
    """Whether what a layer adds is multiplied by a weight, number by number."""
    projections: int = 1
    """Into the language model's width: one, and DeepStack's."""
    taps: int = 0
    """Entries of a table of position embeddings that a patch's is interpolated from."""


class Family(PromptFormat):
    """A family's adapter; this one is of text models with full or sliding attention.

    Announce an instance by `model_type` in the entry-point group `gpg_vl.families`. tests/invariant/
    test_families.py says what holds for each: log-probabilities, gradients and greedy answers are those of
    transformers' own forward on each answer alone.
    """

    text_part: ClassVar[str] = ""
    """The language model's name in transformers' base model, which itself is one in a text model."""
    vision_parts: ClassVar[tuple[str, ...]] = ()
    """Names there of the image encoder and its projection into the language model's width."""
    recurrent: ClassVar[bool] = False
    """Whether layers carry a state along the row, which answers then fork from their prompt's."""
    bidirectional_images: ClassVar[bool] = False
    """Whether the tokens of an image read each other in both directions."""
    mrope: ClassVar[bool] = False
    """Whether the text model takes positions of three axes, as M-RoPE's are."""
    tolerance: ClassVar[float] = 2e-6
    """What log-probabilities (nats) and gradients (relative) may differ by from transformers', in fp32."""
    transposed_experts: ClassVar[bool] = False
    """Whether the hub has stacks of experts as (experts, in, out), where transformers holds and saves them as
    (experts, out, in)."""
    video: ClassVar[bool] = False
    """Whether data may hold videos."""
    vision_attention: ClassVar[str] = "sdpa"
    """The vision tower's attention, by its name in transformers."""
    text_kinds: ClassVar[Collection[str]] = ()
    """Types of text models that it may have, where that differs within the family; empty for any."""
    layer_kinds: ClassVar[Collection[str]] = (FULL, SLIDING)
    """Kinds of layers that are supported."""
    lora_targets: ClassVar[str] = r"layers\.\d+\.(?:self_attn|mlp)\.\w+_proj"
    """What LoRA adapters stand beside: a pattern of names below the text model."""

    def text_model(self, model: Any) -> Any:
        """The language model without its vocabulary projection, of a model as transformers loads it."""
        return self._part(model, self.text_part) if self.text_part else model.model

    def vision_modules(self, model: Any) -> list[nn.Module]:
        """What `vision_parts` names."""
        return [self._part(model, name) for name in self.vision_parts]

    def _part(self, model: Any, name: str) -> Any:
        """Raises ModelError, with the parts that there are, for a mistake in an adapter."""
        parts = dict(model.model.named_children())
        if name not in parts:
            raise ModelError(
                f"the adapter {type(self).__name__} names {name!r}, which is no part of "
                f"{type(model.model).__name__}: it has {', '.join(parts)}"
            )
        return parts[name]

    def prepare(self, model: Any) -> None:
        """Change a loaded model where that makes it faster, and not what it computes."""

    def features(self, model: Any, batch: PackedBatch) -> ImageFeatures:
        """Features of a batch's images, which it has."""
        raise NotImplementedError

    def extra_inputs(self, batch: PackedBatch, features: ImageFeatures) -> dict[str, Any]:
        """What the text model's forward takes of images besides their features in the embeddings."""
        return {}

    def embed(self, model: Any, batch: PackedBatch) -> tuple[Tensor, dict[str, Any]]:
        """Token embeddings with image features in their places, (R, S, H), and the `extra_inputs`."""
        embeds = embedded(self.text_model(model).embed_tokens, batch.token_ids)
        if batch.pixel_values is None:
            return embeds, {}
        weights = (weight for part in self.vision_modules(model) for weight in part.parameters())
        trained = any(weight.requires_grad for weight in weights)
        # a frozen tower keeps nothing
        with phase("vision"), torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            features = self.features(model, batch)
        seen = features.tokens[batch.image_features].to(embeds.dtype)
        flat = embeds.flatten(0, 1).index_copy(0, batch.image_slots, seen)
        return flat.view_as(embeds), self.extra_inputs(batch, features)

    def positions(self, positions: Tensor) -> Tensor:
        """Positions (3, R, S) as the text model takes them; where it has one axis, the three are equal."""
        return positions if self.mrope else positions[0]

    def vision_sizes(self, config: Any) -> VisionSizes:
        """Sizes of the vision tower, by the model's config."""
        raise NotImplementedError

    def sights(self, config: Any) -> dict[str, Sight]:
        """What tokens see, by the kinds of layers with attention that a text config has."""
        windows = {FULL: None, SLIDING: getattr(config, "sliding_window", None)}
        return {
            kind: Sight(windows[kind], self.bidirectional_images)
            for kind in sorted({*(getattr(config, "layer_types", None) or [FULL])})
            if kind in windows
        }

    def check(self, path: str, config: Any) -> None:
        """Raise ModelError, naming `path`, for a model of the family that is not reproduced exactly."""
        text = config.get_text_config()
        if self.text_kinds and text.model_type not in self.text_kinds:
            raise ModelError(
                f"{path!r} is a {config.model_type!r} model whose text model is a {text.model_type!r}; "
                f"supported: {', '.join(self.text_kinds)}"
            )
        if self.recurrent and (self.bidirectional_images or SLIDING in self.layer_kinds):
            raise ModelError(
                f"{path!r}: windows and whole images beside layers with states are not supported"
            )
        foreign = {*(getattr(text, "layer_types", None) or ())} - {*self.layer_kinds}
        if foreign:
            raise ModelError(
                f"{path!r} is a {config.model_type!r} model with {', '.join(sorted(foreign))} layers, which "
                "are not supported"
            )
        ropes = getattr(text, "rope_parameters", None) or {}
        nested = [rope for rope in ropes.values() if isinstance(rope, dict)]  # one for each kind of layer
        for rope in nested or [ropes]:
            if (kind := rope.get("rope_type", "default")) not in _FIXED_ROPE:
                raise ModelError(
                    f"{path!r} has {kind!r} rotary embeddings, whose angles depend on the length of the row; "
                    f"packed rows support {', '.join(_FIXED_ROPE)}"
                )
        for name in _UNSUPPORTED:
            if getattr(text, name, None):
                raise ModelError(f"{path!r}: {name} in its config.json is not supported")

"""How large a model is: its weights, and the widths that decide what a pass keeps."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gpg_vl.model.families.family import Family
from gpg_vl.model.holding import NF4_BYTES, Holding, four_bit_weights, is_packed, numbers
from gpg_vl.model.loading import model_class
from gpg_vl.model.policy import Policy

_COLOURS = 3
_LEAST_8BIT, _BLOCK_8BIT = 4096, 256
"""bitsandbytes': numbers from which a weight has moments in 8 bits, and those that share a scale."""


@dataclass(frozen=True)
class Tower:
    """A stack of equal transformer layers; widths in numbers per token (of the vision tower: per patch)."""

    layers: int
    width: int
    """Of the residual stream."""
    feed_forward: int
    """Inside the feed-forward part; of experts, of all that a token goes through."""
    query: int
    """Heads times head size."""
    key: int
    """Key-value heads times head size."""
    repeats_keys: bool
    """Whether masked attention copies keys and values once per query head."""
    gated: bool
    """RMS norms and a gated feed-forward part; else layer norms and two matrices."""
    trained: bool
    """Whether a gradient passes through it, so that its activations are kept."""
    inner: int = 4
    """Tensors as wide as the feed-forward part that a layer keeps."""
    norms: int = 2
    """Of the residual stream's width, per layer."""
    normed_heads: bool = False
    """Whether queries and keys pass norms, too."""
    joint: bool = False
    """Whether one matrix makes queries, keys and values: its product is kept, and turned queries and keys."""
    gated_heads: bool = False
    """Whether what attention reads is gated."""
    scaled: bool = False
    """Whether what a layer adds is multiplied by a weight, number by number."""
    experts: int = 0
    """Experts that a token goes through; 0 where there is but one feed-forward part. Their products are fp32
    whatever the others' type: autocast does not know them."""
    four_bit: bool = False
    """Whether its linear layers are held in 4 bits: they give fp32 where they read it."""
    projections: int = 0
    """Behind the layers, of features into the language model's width."""
    taps: int = 0
    """Entries of a table that a position embedding is interpolated from."""


@dataclass(frozen=True)
class States:
    """Layers that carry a state along the row, in place of keys."""

    layers: int
    heads: int
    """States that a layer has."""
    key: int
    """Rows of a state."""
    value: int
    """Columns of a state."""
    channels: int
    """Of the convolution in front."""


@dataclass(frozen=True)
class ModelSizes:
    """Numbers of weights and widths of one model, after the choice of what is trained."""

    weights: int
    trained: int
    held: float
    """Bytes of all weights, in the types that they are held in."""
    trained_bytes: int
    """Of the trained ones, and of their gradients."""
    cast: int
    """Weights of matrix products that a gradient passes through: bf16 arithmetic copies these, which are held
    in fp32."""
    kept_cast: int
    """Those of them that are trained: their copies outlive the single product."""
    largest: int
    """Numbers in the largest trained weight, which is that of the vocabulary in small models."""
    vocabulary: int
    vocabulary_gradient: int
    """Numbers in the gradient of the vocabulary projection; 0 where it is not trained."""
    token_cost: float
    """As `Policy.token_cost`."""
    tied: bool
    """Whether the embedding is the vocabulary projection too."""
    text: Tower
    vision: Tower | None
    pixels: int = 0
    """Numbers per patch of an image."""
    patches: int = 0
    """Patches per image token."""
    token_pixels: int = 0
    """Pixels of an image for one token of it; 0 where that depends on its shape, and without images."""
    decoded: int = 0
    """Weights of the matrices that rollouts read for every token, held in fp32: in bf16 they copy these."""
    context: int = 0
    """As `Policy.context`."""
    masks: int = 1
    """That packed rows need: kinds of layers with attention."""
    states: States | None = None
    """Of the text model's layers, where some carry one."""
    vocabulary_bytes: int = 4
    """Of a number in the vocabulary projection, as it is held."""
    untrained: int = 0
    """Bytes of all weights without adapters, as a model that only answers holds them in bf16 arithmetic."""
    moments_8bit: float = 0
    """Bytes of both moments in bitsandbytes' 8-bit AdamW."""
    halves: int = 0
    """Trained weights that are held in bf16."""
    largest_half: int = 0
    """Numbers in the largest of them."""
    packed: int = 0
    """Numbers in the largest weight that is held in 4 bits."""


def skeleton(config: Any, family: Family, holding: Holding | None = None) -> Policy:
    """The policy of a config.json on the meta device: no weights, no processor; to count with.

    Its embedding is taken for a published one, which bf16 holds.
    """
    with torch.device("meta"):
        model = model_class(family).from_config(config)
        holding = holding or Holding()
        holding.apply(model, family)
        holding.apply_to_embedding(model, family)
        return Policy(model, None, family)


def sizes_of(policy: Policy, *, four_bit: bool = False) -> ModelSizes:
    """Sizes of a policy or of a `skeleton`, behind `choose_weights`.

    `four_bit`: the language model's linear layers will be quantised, which a skeleton's are not.
    """
    vision = _vision_tower(policy) if policy.takes_images else None
    linear = {*four_bit_weights(policy.text_model)}
    packed = linear if four_bit else {weight for weight in linear if is_packed(weight)}
    copied = {w for w in _copied(policy, vision) if w.dtype == torch.float32} - packed
    decoded = {w for part in (policy.text_model, policy.model.lm_head) for w in _matrices(part)}
    weights = [*policy.parameters()]
    trained = [weight for weight in weights if weight.requires_grad]
    halves = [weight for weight in trained if weight.dtype == torch.bfloat16]
    head = policy.model.lm_head.weight
    reader = policy.family.reader
    seen = policy.family.vision_sizes(policy.model.config) if vision else None
    return ModelSizes(
        weights=_count(weights),
        trained=_count(trained),
        held=sum(_bytes(weight, packed) for weight in weights),
        trained_bytes=sum(weight.itemsize * weight.numel() for weight in trained),
        cast=_count(copied),
        kept_cast=_count(weight for weight in copied if weight.requires_grad),
        largest=max(map(numbers, trained)),
        vocabulary=policy.vocabulary,
        context=policy.context,
        states=_states(policy.text_model),
        masks=len(policy.family.sights(policy.model.config.get_text_config())),
        vocabulary_gradient=head.numel() if head.requires_grad else 0,
        token_cost=policy.token_cost,
        tied=head is policy.text_model.embed_tokens.weight,
        text=replace(_text_tower(policy), four_bit=bool(packed)),
        vision=vision,
        pixels=_COLOURS * seen.frames * math.prod(seen.patch) if seen else 0,
        patches=seen.patches if seen else 0,
        token_pixels=seen.patches * math.prod(seen.patch) if seen and reader and reader.keeps_limits else 0,
        decoded=_count(weight for weight in decoded - packed if weight.dtype == torch.float32),
        vocabulary_bytes=head.itemsize,
        untrained=_untrained(policy),
        moments_8bit=sum(_moments_8bit(numbers(weight)) for weight in trained),
        halves=_count(halves),
        largest_half=max(map(numbers, halves), default=0),
        packed=max(map(numbers, packed), default=0),
    )


def _count(weights: Iterable[Any]) -> int:
    return sum(map(numbers, weights))


def _bytes(weight: Any, packed: Collection[Any]) -> float:
    """Bytes that a weight is held in; `packed` ones will be quantised."""
    kind = NF4_BYTES if is_packed(weight) or weight in packed else weight.itemsize
    return kind * numbers(weight)


def _moments_8bit(count: int) -> float:
    """Bytes of a weight's two moments in bitsandbytes' 8-bit AdamW: one a number, and a scale for each block.

    Those of small weights are in fp32.
    """
    if count < _LEAST_8BIT:
        return 2 * 4 * count
    return 2 * (count + 4 * math.ceil(count / _BLOCK_8BIT))


def _untrained(policy: Policy) -> int:
    """Bytes of all weights but adapters as `Holding.untrained` has them in bf16 arithmetic."""
    embedding = policy.text_model.embed_tokens.weight
    halved = {*_matrices(policy.model), *_experts(policy.model), embedding}
    own = [w for name, w in policy.model.named_parameters() if "lora_" not in name]
    return sum((2 if weight in halved else 4) * numbers(weight) for weight in own)


def _copied(policy: Policy, vision: Tower | None) -> Iterable[Any]:
    """Weights of matrix products that a gradient passes through."""
    return (w for part in _graph(policy, vision) for w in (*_matrices(part), *_experts(part)))


def _graph(policy: Policy, vision: Tower | None) -> Iterable[nn.Module]:
    """The parts that a gradient passes through."""
    yield policy.text_model
    yield policy.model.lm_head
    if vision and vision.trained:
        yield policy.vision_tower


def _matrices(part: nn.Module) -> Iterable[Any]:
    """Weights that autocast copies: of linear layers and of convolutions that cut patches."""
    for module in part.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            yield module.weight


def _experts(part: nn.Module) -> Iterable[Any]:
    """Stacks of experts' matrices, which rollouts do not hold copies of."""
    return (weight for name, weight in part.named_parameters() if ".experts." in name)


def _trained(part: nn.Module) -> bool:
    return any(weight.requires_grad for weight in part.parameters())


def _text_tower(policy: Policy) -> Tower:
    config = policy.model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = _attention(policy.text_model)
    norms = sum("norm" in name for name, _ in policy.text_model.layers[0].named_children())
    query = config.num_attention_heads * size
    return Tower(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        feed_forward=_feed_forward(config),
        query=query,
        key=config.num_key_value_heads * size,
        repeats_keys=1 < config.num_key_value_heads < config.num_attention_heads,
        gated=True,
        trained=True,
        norms=norms,
        normed_heads=hasattr(attention, "q_norm"),
        gated_heads=attention.q_proj.out_features == 2 * query,
        experts=getattr(config, "num_experts_per_tok", None) or 0,
    )


def _states(text_model: Any) -> States | None:
    found = [layer.linear_attn for layer in text_model.layers if hasattr(layer, "linear_attn")]
    if not found:
        return None
    one = found[0]
    channels = one.conv1d.in_channels
    return States(len(found), one.num_v_heads, one.head_k_dim, one.head_v_dim, channels)


def _attention(text_model: Any) -> Any:
    """That of a layer which has one: in some models others carry a state instead."""
    return next(layer.self_attn for layer in text_model.layers if hasattr(layer, "self_attn"))


def _feed_forward(config: Any) -> int:
    """Width inside a layer's feed-forward part; of experts, of those that a token goes through."""
    if experts := getattr(config, "num_experts_per_tok", None):
        return int(experts * config.moe_intermediate_size)
    return int(config.intermediate_size)


def _vision_tower(policy: Policy) -> Tower:
    sizes = policy.family.vision_sizes(policy.model.config)
    return Tower(
        layers=sizes.layers,
        width=sizes.width,
        feed_forward=sizes.feed_forward,
        query=sizes.width,
        key=sizes.width,
        repeats_keys=False,
        gated=sizes.gated,
        trained=_trained(policy.vision_tower),
        inner=4 if sizes.gated else sizes.inner,
        joint=sizes.joint,
        scaled=sizes.scaled,
        projections=sizes.projections,
        taps=sizes.taps,
    )

"""Forecast of the memory of one card, in bytes, from sizes alone.

Weights and optimizer by count; activations by what the layers keep for the backward pass, tensor by tensor.
`tests/integration/test_memory.py` compares it with the measured peak.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpg_vl.model.flex import BLOCK
from gpg_vl.model.logprobs import logits_rows
from gpg_vl.model.packing import packing_pays
from gpg_vl.model.sizes import ModelSizes, Tower
from gpg_vl.preflight.layers import chunked, feeding, kept, kept_beside_states, kept_of_chunks
from gpg_vl.preflight.states import (
    BF16,
    FP32,
    Cards,
    Parts,
    Updater,
    gathered,
    gradients,
    held_states,
    step_parts,
)
from gpg_vl.rollout.own import PREFILL_TOKENS
from gpg_vl.rollout.sampling import draw_elements
from gpg_vl.types import Packing

GIB = 2**30
_UNPACKED = BF16 + FP32 / 64
"""Bytes per number of a 4-bit weight while it is multiplied: in bf16, with the scale of each 64 in fp32."""
OPTIMIZER_STEP = "optimizer step"
"""The one phase in which no answers are in memory."""


@dataclass(frozen=True)
class Load:
    """What one card works on; lengths in tokens."""

    prompt_tokens: int
    image_tokens: int
    """Those of the prompt that are image tokens."""
    answer_tokens: int
    group_size: int
    questions: int
    """Per round."""
    groups: int
    """In a step's update, at most."""
    max_concurrent: int
    micro_batch_tokens: int
    packing: Packing
    bf16: bool
    checkpointing: bool
    flex: bool = False
    """Whether packed rows go through FlexAttention, which has no mask in memory."""
    reference: bool = False
    """Whether a frozen first model of a KL term is held beside the policy."""
    updater: Updater = field(default_factory=Updater)
    """What steps the weights."""
    vllm: float | None = None
    """Bytes that vLLM has of the card while it samples, 0 if it is elsewhere; None where the policy does."""

    @property
    def compute(self) -> int:
        """Bytes per number in activations and caches."""
        return 2 if self.bf16 else FP32


@dataclass(frozen=True)
class MicroBatch:
    """The shape of one forward and backward pass."""

    tokens: int
    row_tokens: int
    prompts: int
    """Distinct ones, whose images go through the vision tower once each."""
    targets: int
    masked: bool
    """Whether answers share a row, which a mask in memory keeps apart."""


@dataclass(frozen=True)
class Forecast:
    """Bytes on one card: what is always there, and what each phase of a step adds."""

    states: Parts
    phases: Mapping[str, Parts]

    def total(self, phase: str) -> float:
        """Bytes while in `phase`."""
        return sum(self.states.values()) + sum(self.phases[phase].values())

    @property
    def fullest(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=self.total)

    @property
    def peak(self) -> float:
        """Bytes needed."""
        return self.total(self.fullest)


def forecast(sizes: ModelSizes, load: Load, cards: Cards) -> Forecast:
    """The memory of one card while it trains."""
    own, updater = gradients(sizes, cards), load.updater
    phases = {
        "rollout": (
            gathered(sizes, cards, live=False) | rollout_parts(sizes, load, cards)
            if load.vllm is None
            else {"vLLM": load.vllm}
        ),
        "update": own | gathered(sizes, cards, live=True) | update_parts(sizes, load, cards),
        OPTIMIZER_STEP: own | step_parts(sizes, cards, updater),
    }
    always = held_states(sizes, cards, updater)
    if load.reference:
        always["reference model"] = sizes.untrained if load.bf16 else FP32 * sizes.weights
    if not cards.cuda:
        patches = load.groups * load.image_tokens * sizes.patches
        always["images of a step"] = patches * FP32 * sizes.pixels
    return Forecast(always, phases)


def rollout_parts(sizes: ModelSizes, load: Load, cards: Cards) -> Parts:
    """Caches of answers that all reach their limit, and the wider of reading and decoding."""
    questions = max(1, min(load.max_concurrent // load.group_size, load.questions))
    answers = questions * load.group_size
    states = sizes.states
    attentive = sizes.text.layers - (states.layers if states else 0)
    per_token = 2 * attentive * sizes.text.key * load.compute
    parts = {
        "prompt caches": questions * load.prompt_tokens * per_token,
        "answer caches": answers * load.answer_tokens * per_token,
        "reading and decoding": max(
            _reading(sizes, load, questions), _decoding(sizes, load, answers, cards.device)
        ),
    }
    if states:
        numbers = states.heads * states.key * states.value
        parts["states"] = (questions + answers) * states.layers * FP32 * numbers
    if load.bf16:
        parts["bf16 weights"] = 2 * sizes.decoded
    if sizes.packed:
        parts["a 4-bit weight unpacked"] = _UNPACKED * sizes.packed
    return parts


def _reading(sizes: ModelSizes, load: Load, questions: int) -> float:
    """One pass over prompts, of which nothing is kept but the keys and values, these twice for a moment."""
    prompts = max(1, min(questions, PREFILL_TOKENS // load.prompt_tokens))
    tokens, text, c = prompts * load.prompt_tokens, sizes.text, load.compute
    layer = 4 * FP32 * text.width + max(feeding(text, c), (2 * FP32 + 2 * c) * text.query)
    if sizes.states:
        layer = max(layer, 4 * FP32 * text.width + kept_of_chunks(sizes.states, c))
    cache = text.layers * text.key * (FP32 + c if load.bf16 else 0)
    patches = prompts * load.image_tokens * sizes.patches
    return max(tokens * (layer + cache), patches * _seeing(sizes, c))


def _seeing(sizes: ModelSizes, compute: int) -> float:
    """Bytes per patch of a pass through the vision tower that keeps nothing."""
    tower = sizes.vision
    if tower is None:
        return 0
    turning, interpolating = (6 * FP32 + 3 * compute) * tower.width, 2 * FP32 * tower.taps * tower.width
    widest = max(3 * compute * tower.feed_forward, turning, interpolating)
    images = (FP32 + (compute if compute < FP32 else 0)) * sizes.pixels
    return images + 2 * compute * tower.width + widest


_LEAST_HEAD = 16
"""Head size, at least: a tower knows its width only, and scores are as many as there are heads."""


def _decoding(sizes: ModelSizes, load: Load, answers: int, device: str) -> float:
    """The logits of the answers drawn together, and the attention scores over prompt and answer."""
    logits = min(answers * sizes.vocabulary, draw_elements(device))
    drawing = 3 * FP32 * logits  # beside them, the probabilities and their blocks
    scores = answers * sizes.text.query * (load.prompt_tokens + load.answer_tokens) * FP32
    return max(drawing, scores / _LEAST_HEAD)


def shape(sizes: ModelSizes, load: Load) -> MicroBatch:
    """The fullest micro-batch that answers of `answer_tokens` tokens make."""
    prompt, answer, group, budget = (
        load.prompt_tokens,
        load.answer_tokens,
        load.group_size,
        load.micro_batch_tokens,
    )
    pays = packing_pays(prompt, [answer] * group, sizes.token_cost)
    packed = load.packing == "group" or (load.packing == "auto" and pays)
    together = max(1, min(group, (budget - prompt) // max(1, answer - 1))) if packed else 1
    row = prompt + together * (answer - 1)
    flex = load.flex and together > 1
    if flex:
        row = math.ceil(row / BLOCK) * BLOCK
    everything = load.groups * math.ceil(group / together) * row
    tokens = max(row, min(budget, everything))
    answers = max(1, round(tokens / row * together))
    masked = together > 1 and not flex
    return MicroBatch(tokens, row, math.ceil(answers / group), answers * answer, masked)


def update_parts(sizes: ModelSizes, load: Load, cards: Cards) -> Parts:
    """What the fullest micro-batch keeps for its backward pass, and the widest moment of that pass."""
    micro, c = shape(sizes, load), load.compute
    logits = _logits(sizes, micro, c, logits_rows(cards.device))
    patches = micro.prompts * load.image_tokens * sizes.patches
    mask = micro.tokens * micro.row_tokens if micro.masked else 0
    parts = {
        "text activations": _text_kept(sizes, load, micro)
        + 2 * FP32 * micro.targets * sizes.text.width,  # read by the vocabulary, and their gradients
        "attention mask": sizes.masks * mask * c,
        "images": patches * (FP32 + (c if load.bf16 else 0)) * sizes.pixels,
        "logits or widest layer": max(logits, _layer_gradients(sizes, micro.tokens, c)),
    }
    if sizes.vision and sizes.vision.trained:
        parts["vision activations"] = _vision_kept(sizes.vision, load, patches)
    if sizes.packed:
        parts["a 4-bit weight unpacked"] = _UNPACKED * sizes.packed
    if load.bf16:
        parts["bf16 weights"] = 2 * (sizes.kept_cast if load.checkpointing else sizes.cast)
    return parts


def _text_kept(sizes: ModelSizes, load: Load, micro: MicroBatch) -> float:
    """By all layers; with checkpointing by one at a time, beside each one's input."""
    text, states, c = sizes.text, sizes.states, load.compute
    layer = micro.tokens * kept(text, c, masked=micro.masked)
    inputs = text.layers * micro.tokens * FP32 * text.width
    if states is None:
        return inputs + layer if load.checkpointing else text.layers * layer
    answers = micro.targets / load.answer_tokens
    keys = text.query if text.repeats_keys else text.key
    layer += answers * load.prompt_tokens * 2 * c * keys  # an answer has its prompt's beside its own
    tokens = micro.prompts * chunked(load.prompt_tokens) + answers * chunked(load.answer_tokens - 1)
    state = micro.tokens * kept_beside_states(text, states, c) + tokens * kept_of_chunks(states, c)
    if load.checkpointing:
        return inputs + max(layer, state)
    return (text.layers - states.layers) * layer + states.layers * state


def _vision_kept(tower: Tower, load: Load, patches: int) -> float:
    """By all layers, or as the text's with checkpointing, and by the projections behind them."""
    c = load.compute
    layer = kept(tower, c, masked=False)
    layers = tower.layers * FP32 * tower.width + layer if load.checkpointing else tower.layers * layer
    return patches * (layers + tower.projections * (FP32 + 3 * c) * tower.width)


def _logits(sizes: ModelSizes, micro: MicroBatch, compute: int, rows: int) -> float:
    """Two buffers of logits and the vocabulary's gradient; bf16 copies of a buffer and of an fp32 matrix."""
    buffer = FP32 * min(micro.targets, rows) * sizes.vocabulary
    copies = 0 if compute == FP32 else buffer / 2
    if compute < sizes.vocabulary_bytes:
        copies += compute * sizes.vocabulary * sizes.text.width
    return 2 * buffer + FP32 * sizes.vocabulary_gradient + copies


def _layer_gradients(sizes: ModelSizes, tokens: int, compute: int) -> float:
    """Gradients inside the widest part of a layer; tied embeddings wait for their other gradient."""
    waiting = sizes.vocabulary_bytes * sizes.vocabulary_gradient if sizes.tied else 0
    return waiting + tokens * (feeding(sizes.text, compute) + 2 * FP32 * sizes.text.width)

"""Forecast of what weights, their gradients and their optimizer take on one card, in bytes."""

from dataclasses import dataclass

from gpg_vl.config import OptimConfig
from gpg_vl.model.sizes import ModelSizes
from gpg_vl.runtime import parallel

FP32, BF16 = 4, 2
DEEPSPEED_BUCKET = 500_000_000 * FP32
"""DeepSpeed's buffer for reducing gradients: its default of 5e8 numbers, whatever the model's size."""
BUCKET = FP32 * parallel.BUCKET
"""Bytes of gradients that processes without DeepSpeed add up at a time, at most."""
LIVE = 1_000_000_000
"""Weights that DeepSpeed keeps gathered at a time under ZeRO-3: its default `stage3_max_live_parameters`."""
_ROUNDING = 9
"""Bytes per number while a bf16 weight is stepped: fp32, a mask of a byte, and 4 of noise, then bf16; or
those, bf16 and a new rest."""
MOMENTS = "AdamW's moments"
Parts = dict[str, float]
"""Bytes by what they hold."""


@dataclass(frozen=True)
class Cards:
    """Over how many cards the states are spread, and how."""

    count: int = 1
    zero: int = 0
    """DeepSpeed's stage: 1 spreads the optimizer's moments, 2 gradients too, 3 weights too; 0 is DDP."""
    offload: bool = False
    """Whether DeepSpeed has moments and masters in the machine's memory, and under ZeRO-3 the weights too."""
    cuda: bool = True
    """Whether they are GPUs: these step all weights in place, and leave a step's images to the machine."""

    @property
    def device(self) -> str:
        """Their type."""
        return "cuda" if self.cuda else "cpu"


@dataclass(frozen=True)
class Updater:
    """How an optimizer without DeepSpeed holds its moments."""

    eight_bit: bool = False
    kahan: bool = False
    """Whether bf16 weights have a rest of 2 bytes; else what they cannot hold is rounded at random."""
    offload: bool = False
    """Whether a GPU has the moments, and the rests, during the step alone."""

    @classmethod
    def of(cls, config: OptimConfig) -> "Updater":
        """As configured."""
        return cls(config.kind == "adamw8bit", config.rounding == "kahan", config.offload)


def held_states(sizes: ModelSizes, cards: Cards, updater: Updater) -> Parts:
    """What is there in every phase: weights, moments, and what DeepSpeed adds."""
    sharded = 1 / cards.count if cards.zero else 1
    off = cards.offload and cards.zero > 0
    spread = cards.zero == 3
    parts = {"weights": 0 if spread and off else sizes.held / (cards.count if spread else 1)}
    if not off and not _away(cards, updater):
        parts |= moments(sizes, updater, sharded)
    if cards.zero in (1, 2) and not off:  # ZeRO-3's are the weights themselves, which are fp32 already
        parts["DeepSpeed's fp32 masters"] = FP32 * sizes.trained * sharded
    if cards.zero:
        parts["DeepSpeed's gradient bucket"] = DEEPSPEED_BUCKET
    return parts


def _away(cards: Cards, updater: Updater) -> bool:
    """Whether moments are in the machine's memory but for the step."""
    return updater.offload and cards.cuda and not cards.zero


def moments(sizes: ModelSizes, updater: Updater, share: float = 1) -> Parts:
    """AdamW's two, a card's share of them, and the rests of bf16 weights."""
    parts = {MOMENTS: share * (sizes.moments_8bit if updater.eight_bit else 2 * FP32 * sizes.trained)}
    if updater.kahan and sizes.halves:
        parts["rests of bf16 weights"] = BF16 * sizes.halves
    return parts


def gradients(sizes: ModelSizes, cards: Cards) -> Parts:
    """Of trained weights, in their types; from ZeRO-2 on a card has its share."""
    return {"gradients": sizes.trained_bytes / (cards.count if cards.zero >= 2 else 1)}


def gathered(sizes: ModelSizes, cards: Cards, *, live: bool) -> Parts:
    """Weights that ZeRO-3 brings together: all for a rollout, a window of them for a gradient pass."""
    if cards.zero < 3:
        return {}
    share = min(1.0, LIVE / sizes.weights) if live else 1
    return {"gathered weights": share * sizes.held}


def step_parts(sizes: ModelSizes, cards: Cards, updater: Updater) -> Parts:
    """What the optimizer's step takes besides the gradients."""
    parts = moments(sizes, updater) if _away(cards, updater) else {}
    adding_up = 0 if cards.zero or cards.count == 1 else min(BUCKET, sizes.trained_bytes)
    return parts | {"temporaries": max(adding_up, _temporaries(sizes, cards, updater))}


def _temporaries(sizes: ModelSizes, cards: Cards, updater: Updater) -> float:
    """Of AdamW: none where it is fused; a CPU steps weight by weight. DeepSpeed joins its share of the
    gradients first."""
    if updater.eight_bit:
        return _temporaries_8bit(sizes, cards)
    if cards.cuda and not cards.offload:
        return FP32 * sizes.trained / cards.count if cards.zero else 0
    return 2 * FP32 * sizes.largest


def _temporaries_8bit(sizes: ModelSizes, cards: Cards) -> float:
    """Of 8-bit AdamW: a bf16 weight is stepped as a copy in fp32, with one of its gradient, and then rounded.

    A GPU's kernel takes nothing more; on a CPU both moments, the gradient and the denominator, twice for a
    moment, are copies in fp32.
    """
    if cards.cuda:
        return _ROUNDING * sizes.largest_half
    return max(5 * FP32 * sizes.largest, 7 * FP32 * sizes.largest_half)

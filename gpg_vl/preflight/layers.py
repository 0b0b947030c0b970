"""What layers keep for the backward pass, and hold for a moment, in bytes from widths alone."""

import math

from gpg_vl.model.sizes import States, Tower

FP32 = 4
CHUNK = 64
"""Tokens that the recurrent rule of transformers reads as one matrix; a text is filled up to whole ones."""


def kept(tower: Tower, compute: int, *, masked: bool) -> float:
    """Bytes per token that one layer with attention keeps.

    bf16 arithmetic keeps a copy of a matrix product's input for each product; norms stay in fp32.
    """
    copies = compute < FP32
    if tower.joint:
        products = 8 * tower.width
    else:
        keys = tower.query if masked and tower.repeats_keys else tower.key
        products = (3 if copies else 1) * tower.width
        products += 2 * tower.query + (tower.query if copies else keys) + keys
    if tower.gated_heads:
        products += 3 * tower.query
    if tower.scaled:
        products += 2 * tower.width
    heads = (FP32 + compute) * (tower.query + tower.key) if tower.normed_heads else 0
    return compute * products + heads + _rest(tower, compute)


def _rest(tower: Tower, compute: int) -> float:
    """Norms and the feed-forward part."""
    norms = FP32 * tower.width * tower.norms * (2 if tower.gated else 1)
    inputs = compute * (2 if tower.gated and compute < FP32 else 1) * tower.width
    inner = _inner(tower, compute) * tower.feed_forward
    routed = 2 * FP32 * tower.experts * tower.width  # each expert's copy of a token, and what it gives
    return norms + inputs + inner + routed


def _inner(tower: Tower, compute: int) -> int:
    """Bytes per number of the feed-forward part's width: what a layer in 4 bits gives there is fp32, all but
    the copy that an adapter reads."""
    if tower.four_bit:
        return FP32 * (tower.inner - 1) + compute
    return compute * tower.inner


def feeding(tower: Tower, compute: int) -> float:
    """Bytes per token that a layer's feed-forward part holds at a time, forward or backward."""
    width = FP32 if tower.four_bit else compute
    return 3 * width * tower.feed_forward + 2 * FP32 * tower.experts * tower.width


def kept_beside_states(tower: Tower, states: States, compute: int) -> float:
    """Bytes per token that a layer with a state keeps besides `kept_of_chunks`."""
    inputs = compute * (4 if compute < FP32 else 1) * tower.width
    turned = 2 * FP32 * states.heads * states.key  # queries and keys, before their norms
    gated = (4 * FP32 + 2 * compute) * states.heads * states.value
    return inputs + turned + gated + 2 * compute * states.channels + _rest(tower, compute)


def kept_of_chunks(states: States, compute: int) -> float:
    """Bytes that the recurrent rule keeps per token of whole chunks.

    In fp32 but for copies of what is multiplied: five matrices of a chunk, nine rows of a head's sizes, and
    the state in front of each chunk.
    """
    copies = compute < FP32
    matrices = CHUNK * (2 * FP32 + 3 * compute)
    keys, values = (4 * FP32 + 7 * compute, 2 * FP32 + compute) if copies else (6 * FP32, 3 * FP32)
    carried = states.key * states.value * (FP32 + (2 * compute if copies else 0)) / CHUNK
    return states.heads * (matrices + keys * states.key + values * states.value + carried)


def chunked(tokens: int) -> int:
    """So many tokens and those that fill up the last chunk."""
    return math.ceil(tokens / CHUNK) * CHUNK

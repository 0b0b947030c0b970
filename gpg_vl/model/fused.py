"""`attend` as two Triton kernels: one reads each prompt once for all its answers, one what is their own.

Scores, weights and sums stay on the chip, in fp32. The prompt is read in parts by many programs at a time;
what a part gives is merged by its largest score and its sum of weights, so that all parts are one softmax.
"""

import torch
import triton
from torch import Tensor

from gpg_vl.model.attention import CacheView, Prefix
from gpg_vl.model.triton_kernels import read_answers, read_prompts

ROWS = {2: 64, 4: 16}
KEYS = {2: 64, 4: 32}
"""Queries and keys that one program multiplies at a time, by bytes of a number: what a small card has room
for on the chip."""
_PROGRAMS = 264
"""Programs that keep a large GPU busy: two for each of its multiprocessors."""


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, prefix: Prefix, layer: int, view: CacheView
) -> Tensor:
    """As `gpg_vl.model.attention.attend`, but for rounding: queries (N, heads, D) to (N, heads · D)."""
    assert prefix.layout is not None, "the prefix has no layout yet"
    layout, (prompt_keys, prompt_values) = prefix.layout, prefix.read(layer)
    answers, heads, size = queries.shape
    questions, kv_heads, longest, _ = prompt_keys.shape
    repeats = heads // kv_heads
    block = min(ROWS[queries.itemsize], max(16, triton.next_power_of_2(layout.width * repeats)))
    at_a_time = KEYS[queries.itemsize]
    blocks = triton.cdiv(layout.width * repeats, block)
    parts = min(triton.cdiv(longest, at_a_time), triton.cdiv(_PROGRAMS, questions * kv_heads * blocks))
    part = triton.cdiv(triton.cdiv(longest, parts), at_a_time) * at_a_time
    sums = queries.new_empty((parts, answers, heads, size), dtype=torch.float32)
    largest, totals = (queries.new_empty((parts, answers, heads), dtype=torch.float32) for _ in range(2))
    out = queries.new_empty(answers, heads * size)
    shape = {"REPEATS": repeats, "HEADS": heads, "SIZE": size, "WIDTH": max(16, triton.next_power_of_2(size))}
    read_prompts[(questions, kv_heads, parts * blocks)](
        *(queries, prompt_keys, prompt_values, sums, largest, totals),
        *(layout.first, layout.count, prefix.lengths),
        *(*queries.stride()[:2], *prompt_keys.stride()[:3], *prompt_values.stride()[:3]),
        *(answers, parts, part),
        **shape,
        ROWS=block,
        KEYS=at_a_time,
    )
    read_answers[(answers, kv_heads)](
        *(queries, keys, values, sums, largest, totals, out),
        *(view.starts, view.column),
        *(*queries.stride()[:2], *keys.stride()[:3], *values.stride()[:3]),
        *(answers, parts),
        **shape,
        ROWS=max(16, triton.next_power_of_2(repeats)),
        KEYS=at_a_time,
    )
    return out

"""`StepKernels` as Triton kernels: attention is two of them, all else is one.

Of attention, one reads each prompt once for all its answers, the other what is their own. Scores, weights and
sums stay on the chip, in fp32. The prompt is read in parts by many programs at a time; what a part gives is
merged by its largest score and its sum of weights, so that all parts are one softmax.
"""

import torch
import triton
from torch import Tensor

from gpg_vl.model import triton_kernels
from gpg_vl.model.attention import CacheView, Prefix
from gpg_vl.model.memory import AnswerKeys
from gpg_vl.model.rotation import Rotation
from gpg_vl.model.step_kernels import StepKernels

ROWS = {2: 64, 4: 16}
KEYS = {2: 64, 4: 32}
"""Queries and keys that one program multiplies at a time, by bytes of a number: what a small card has room
for on the chip."""
_PROGRAMS = 264
"""Programs that keep a large GPU busy: two for each of its multiprocessors."""

_VALUES = 1024
"""Gated values that one program works out."""


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
    triton_kernels.read_prompts[(questions, kv_heads, parts * blocks)](
        *(queries, prompt_keys, prompt_values, sums, largest, totals),
        *(layout.first, layout.count, prefix.lengths),
        *(*queries.stride()[:2], *prompt_keys.stride()[:3], *prompt_values.stride()[:3]),
        *(answers, parts, part),
        **shape,
        ROWS=block,
        KEYS=at_a_time,
    )
    triton_kernels.read_answers[(answers, kv_heads)](
        *(queries, keys, values, sums, largest, totals, out),
        *(view.starts, view.column),
        *(*queries.stride()[:2], *keys.stride()[:3], *values.stride()[:3]),
        *(answers, parts),
        **shape,
        ROWS=max(16, triton.next_power_of_2(repeats)),
        KEYS=at_a_time,
    )
    return out


def add_norm(
    hidden: Tensor, added: Tensor | None, weight: Tensor, epsilon: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """As `gpg_vl.model.step_kernels.add_norm`: (N, H) fp32 and (N, H) to the same."""
    rows, size = hidden.shape
    hidden, normed = hidden.contiguous(), torch.empty_like(hidden, dtype=dtype)
    total = hidden if added is None else torch.empty_like(hidden)
    triton_kernels.add_norm[(rows,)](
        *(hidden, total if added is None else added.contiguous(), weight, total, normed, epsilon),
        ADDS=added is not None,
        SIZE=size,
        WIDTH=triton.next_power_of_2(size),
    )
    return total, normed


def rotate(heads: Tensor, rotation: Rotation, memory: AnswerKeys, view: CacheView) -> Tensor:
    """As `gpg_vl.model.step_kernels.rotate`: (N, heads + 2 · KV heads, D) to queries (N, heads, D)."""
    answers, every, size = heads.shape
    count = every - 2 * memory.heads
    queries = memory.buffer.new_empty(answers, count, size)
    triton_kernels.rotate[(answers, every)](
        *(heads.contiguous(), rotation.cosines, rotation.sines, queries, memory.buffer, view.column),
        *memory.buffer.stride()[:4],
        HEADS=count,
        KV_HEADS=memory.heads,
        TURNED=rotation.size,
        SIZE=size,
        WIDTH=triton.next_power_of_2(size),
        num_warps=1,
    )
    return queries


def gate_by_silu(gate_up: Tensor) -> Tensor:
    """As `gpg_vl.model.step_kernels.gate_by_silu`: (N, 2 · F) to (N, F)."""
    rows, size = len(gate_up), gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, size)
    grid = (rows, triton.cdiv(size, _VALUES))
    triton_kernels.gate_by_silu[grid](gate_up.contiguous(), out, SIZE=size, WIDTH=_VALUES)
    return out


FUSED = StepKernels(attend, add_norm, rotate, gate_by_silu)

"""`attend` as two Triton kernels: one reads each prompt once for all its answers, one what is their own.

Scores, weights and sums stay on the chip, in fp32. The prompt is read in parts by many programs at a time;
what a part gives is merged by its largest score and its sum of weights, so that all parts are one softmax.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpg_vl.model.attention import Prefix, View

_ROWS = {2: 64, 4: 16}
_KEYS = {2: 64, 4: 32}
"""Queries and keys that one program multiplies at a time, by bytes of a number: what a small card has room
for on the chip."""
_PROGRAMS = 264
"""Programs that keep a large GPU busy: two for each of its multiprocessors."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, prefix: Prefix, layer: int, view: View) -> Tensor:
    """As `gpg_vl.model.attention.attend`, but for rounding: queries (N, heads, D) to (N, heads · D)."""
    assert prefix.layout is not None, "the prefix has no layout yet"
    prompt_keys, prompt_values, layout = prefix.keys[layer], prefix.values[layer], prefix.layout
    answers, heads, size = queries.shape
    questions, kv_heads, longest, _ = prompt_keys.shape
    repeats = heads // kv_heads
    block = min(_ROWS[queries.itemsize], max(16, triton.next_power_of_2(layout.width * repeats)))
    at_a_time = _KEYS[queries.itemsize]
    blocks = triton.cdiv(layout.width * repeats, block)
    parts = min(triton.cdiv(longest, at_a_time), triton.cdiv(_PROGRAMS, questions * kv_heads * blocks))
    part = triton.cdiv(triton.cdiv(longest, parts), at_a_time) * at_a_time
    sums = queries.new_empty((parts, answers, heads, size), dtype=torch.float32)
    largest, totals = (queries.new_empty((parts, answers, heads), dtype=torch.float32) for _ in range(2))
    out = queries.new_empty(answers, heads * size)
    shape = {"REPEATS": repeats, "HEADS": heads, "SIZE": size, "WIDTH": triton.next_power_of_2(size)}
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


@triton.jit
def _add_keys(
    queries,
    keys,
    values,
    key_stride,
    value_stride,
    begin,
    end,
    most,
    total,
    sums,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Go on with a softmax over the keys from `begin` to `end`: its largest score, total weight and sums."""
    size = tl.arange(0, WIDTH)
    inside = size < SIZE
    for start in range(begin, end, KEYS):
        places = start + tl.arange(0, KEYS)
        known = places < end
        places = places.to(tl.int64)
        block = tl.load(
            keys + places[None, :] * key_stride + size[:, None],
            mask=known[None, :] & inside[:, None],
            other=0.0,
        )
        scores = tl.dot(queries, block, input_precision="ieee")
        scores = tl.where(known[None, :], scores, float("-inf"))
        higher = tl.maximum(most, tl.max(scores, 1))
        weights = tl.exp(scores - higher[:, None])
        fade = tl.exp(most - higher)
        block = tl.load(
            values + places[:, None] * value_stride + size[None, :],
            mask=known[:, None] & inside[None, :],
            other=0.0,
        )
        total = total * fade + tl.sum(weights, 1)
        sums = sums * fade[:, None] + tl.dot(weights.to(block.dtype), block, input_precision="ieee")
        most = higher
    return most, total, sums


@triton.jit(do_not_specialize=["answers", "parts", "part"])
def read_prompts(
    queries,
    keys,
    values,
    sums,
    largest,
    totals,
    first,
    count,
    lengths,
    query_answer,
    query_head,
    key_question,
    key_head,
    key_place,
    value_question,
    value_head,
    value_place,
    answers,
    parts,
    part,
    REPEATS: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """One part of one prompt, for one KV head: rows are a question's answers and the heads of each."""
    question, kv_head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    number, block = tl.program_id(2) % parts, tl.program_id(2) // parts
    rows = block * ROWS + tl.arange(0, ROWS)
    size = tl.arange(0, WIDTH)
    live = rows < tl.load(count + question) * REPEATS
    answer = tl.load(first + question) + rows // REPEATS
    head = kv_head * REPEATS + rows % REPEATS
    known = live[:, None] & (size < SIZE)[None, :]
    places = answer[:, None] * query_answer + head[:, None] * query_head + size[None, :]
    asked = tl.load(queries + places, mask=known, other=0.0)
    begin = number * part
    end = tl.minimum(begin + part, tl.load(lengths + question))
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    summed = tl.zeros((ROWS, WIDTH), tl.float32)
    keys += question * key_question + kv_head * key_head
    values += question * value_question + kv_head * value_head
    most, total, summed = _add_keys(
        asked, keys, values, key_place, value_place, begin, end, most, total, summed, SIZE, WIDTH, KEYS
    )
    place = (number.to(tl.int64) * answers + answer) * HEADS + head
    tl.store(largest + place, most, mask=live)
    tl.store(totals + place, total, mask=live)
    tl.store(sums + place[:, None] * SIZE + size[None, :], summed, mask=known)


@triton.jit(do_not_specialize=["answers", "parts"])
def read_answers(
    queries,
    keys,
    values,
    sums,
    largest,
    totals,
    out,
    starts,
    column,
    query_answer,
    query_head,
    key_answer,
    key_head,
    key_place,
    value_answer,
    value_head,
    value_place,
    answers,
    parts,
    REPEATS: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """One answer's own tokens for one KV head, then what the parts of its prompt gave."""
    answer, kv_head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    rows, size = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    live = rows < REPEATS
    head = kv_head * REPEATS + rows
    known = live[:, None] & (size < SIZE)[None, :]
    places = answer * query_answer + head[:, None] * query_head + size[None, :]
    asked = tl.load(queries + places, mask=known, other=0.0)
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    summed = tl.zeros((ROWS, WIDTH), tl.float32)
    keys += answer * key_answer + kv_head * key_head
    values += answer * value_answer + kv_head * value_head
    begin, end = tl.load(starts + answer).to(tl.int32), tl.load(column).to(tl.int32) + 1
    most, total, summed = _add_keys(
        asked, keys, values, key_place, value_place, begin, end, most, total, summed, SIZE, WIDTH, KEYS
    )
    for number in range(parts):
        place = (number * answers + answer) * HEADS + head
        other = tl.load(largest + place, mask=live, other=float("-inf"))
        weight = tl.load(totals + place, mask=live, other=0.0)
        more = tl.load(sums + place[:, None] * SIZE + size[None, :], mask=known, other=0.0)
        higher = tl.maximum(most, other)
        own, its = tl.exp(most - higher), tl.exp(other - higher)
        total = total * own + weight * its
        summed = summed * own[:, None] + more * its[:, None]
        most = higher
    result = (summed / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + (answer * HEADS + head[:, None]) * SIZE + size[None, :], result, mask=known)

"""The Triton kernels of `gpg_vl.model.fused`; strides are those of the tensor that their name begins with."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl


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

"""The Triton kernels of `gpg_vl.model.fused`; strides are those of the tensor that their name begins with.

Tensors without strides are contiguous.
"""

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


@triton.jit
def add_norm(
    hidden, added, weight, total, normed, epsilon, ADDS: tl.constexpr, SIZE: tl.constexpr, WIDTH: tl.constexpr
):
    """One row of the residual stream: what is added to it, and the RMS norm of the sum."""
    places = tl.arange(0, WIDTH)
    known = places < SIZE
    row = tl.program_id(0).to(tl.int64) * SIZE + places
    values = tl.load(hidden + row, mask=known, other=0.0)
    if ADDS:
        values += tl.load(added + row, mask=known, other=0.0).to(tl.float32)
        tl.store(total + row, values, mask=known)
    scale = 1 / tl.sqrt(tl.sum(values * values, 0) / SIZE + epsilon)
    result = values * scale * tl.load(weight + places, mask=known, other=0.0)
    tl.store(normed + row, result.to(normed.dtype.element_ty), mask=known)


@triton.jit
def rotate(
    heads,
    cosines,
    sines,
    queries,
    memory,
    column,
    memory_kind,
    memory_answer,
    memory_head,
    memory_column,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    TURNED: tl.constexpr,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One head of one answer: rotated, and stored where it belongs."""
    answer, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    places = tl.arange(0, WIDTH)
    known = places < SIZE
    row = (answer * (HEADS + 2 * KV_HEADS) + head) * SIZE
    others = tl.where(places < TURNED, (places + TURNED // 2) % TURNED, places)
    own = tl.load(heads + row + places, mask=known, other=0.0).to(tl.float32)
    other = tl.load(heads + row + others, mask=known, other=0.0).to(tl.float32)
    cosine = tl.load(cosines + row + places, mask=known, other=0.0)
    sine = tl.load(sines + row + places, mask=known, other=0.0)
    result = (own * cosine + other * sine).to(memory.dtype.element_ty)
    if head < HEADS:
        tl.store(queries + (answer * HEADS + head) * SIZE + places, result, mask=known)
    else:
        kind, kv_head = (head - HEADS) // KV_HEADS, (head - HEADS) % KV_HEADS
        memory += kind.to(tl.int64) * memory_kind + answer * memory_answer + kv_head * memory_head
        tl.store(memory + tl.load(column) * memory_column + places, result, mask=known)


@triton.jit
def gate_by_silu(gate_up, out, SIZE: tl.constexpr, WIDTH: tl.constexpr):
    """A block of one row's values, times silu of their gates; rounded in between as operators would."""
    row, places = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    known = places < SIZE
    gate = tl.load(gate_up + row * 2 * SIZE + places, mask=known, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * SIZE + SIZE + places, mask=known, other=0.0).to(tl.float32)
    open_gate = (gate / (1 + tl.exp(-gate))).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * SIZE + places, (open_gate * up).to(out.dtype.element_ty), mask=known)

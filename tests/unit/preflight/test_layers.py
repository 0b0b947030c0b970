"""What layers keep, against numbers worked out by hand."""

from dataclasses import replace

import pytest

from gpg_vl.model.sizes import States, Tower
from gpg_vl.preflight.layers import chunked, feeding, kept, kept_beside_states, kept_of_chunks

FP32, BF16 = 4, 2
TEXT = Tower(2, width=10, feed_forward=30, query=8, key=4, repeats_keys=True, gated=True, trained=True)
TOWER = Tower(
    3, width=6, feed_forward=24, query=6, key=6, repeats_keys=False, gated=False, trained=True, inner=2
)
STATES = States(layers=1, heads=2, key=4, value=8, channels=24)
PLAIN = {FP32: 848, BF16: 564}
"""Of `TEXT` with a mask: test_memory.py has the sums."""


@pytest.mark.parametrize("compute", [FP32, BF16])
@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({}, (0, 0)),
        # two more norms: 2·2·4·10
        ({"norms": 4}, (160, 160)),
        # 12 numbers of queries and keys, as they are in fp32 and normed in the arithmetic's type
        ({"normed_heads": True}, (96, 72)),
        # the gate, what it is multiplied with and what that gives: 3·8
        ({"gated_heads": True}, (96, 48)),
        # 2 experts: copies and results 2·2·4·10
        ({"experts": 2}, (160, 160)),
    ],
)
def test_a_layer_of_a_text_model(compute, changes, more):
    expected = PLAIN[compute] + more[compute == BF16]
    assert kept(replace(TEXT, **changes), compute, masked=True) == expected


@pytest.mark.parametrize(
    ("changes", "fp32", "bf16"),
    [
        # norms 2·4·6; inputs of two products, queries, keys, values and what is read: 6·6; 2·24 inside
        # in bf16 the three products of attention have a copy of their input each: 8·6
        ({}, 48 + 4 * (36 + 48), 48 + 2 * (48 + 48)),
        # one product for the three, and the turned queries and keys beside it: 9·6
        ({"joint": True}, 48 + 4 * (54 + 48), 48 + 2 * (54 + 48)),
        ({"scaled": True}, 48 + 4 * (48 + 48), 48 + 2 * (60 + 48)),
        ({"inner": 3}, 48 + 4 * (36 + 72), 48 + 2 * (48 + 72)),
    ],
)
def test_a_layer_of_a_tower(changes, fp32, bf16):
    tower = replace(TOWER, **changes)
    assert kept(tower, FP32, masked=False) == fp32
    assert kept(tower, BF16, masked=False) == bf16


def test_a_layer_with_states():
    # per head and token: 64 of each of 5 matrices, 6 rows of 4 and 3 of 8, and 32/64 of a state
    assert kept_of_chunks(STATES, FP32) == 2 * (5 * 64 * 4 + 4 * (6 * 4 + 3 * 8) + 4 * 32 / 64)
    # two of the matrices in fp32; 4 + 2 rows in fp32 and 7 + 1 in bf16; the state and two copies
    assert kept_of_chunks(STATES, BF16) == 2 * (64 * 14 + (16 + 14) * 4 + (8 + 2) * 8 + 8 * 32 / 64)
    # norms 4·4·10, one input of each part, 4·4·30 inside; queries and keys 2·8, six of values 16, twice 24
    rest = 160 + 4 * 10 + 480
    assert kept_beside_states(TEXT, STATES, FP32) == rest + 4 * (10 + 16 + 6 * 16 + 2 * 24)


def test_chunks_are_whole():
    assert [chunked(tokens) for tokens in (0, 1, 64, 65)] == [0, 64, 64, 128]


def test_experts_hold_copies_of_tokens():
    assert feeding(TEXT, BF16) == 3 * 2 * 30
    assert feeding(replace(TEXT, experts=2), BF16) == 3 * 2 * 30 + 2 * 4 * 2 * 10


def test_products_of_4_bit_layers_are_fp32():
    # three of the four tensors of 30 numbers in fp32, not bf16
    quantised = replace(TEXT, four_bit=True)
    assert kept(quantised, BF16, masked=False) - kept(TEXT, BF16, masked=False) == 3 * 2 * 30
    assert feeding(quantised, BF16) == 3 * 4 * 30

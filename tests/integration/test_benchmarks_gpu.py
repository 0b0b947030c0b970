"""The formulas of `benchmarks.gpu`, by hand and against torch's own count."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.decode_rate import floor, largest_that_fits
from benchmarks.gpu import tables
from benchmarks.limits import Work, decode_bytes, layer_weights, training_flops, work_of
from benchmarks.scales import FULL, Scale
from benchmarks.workloads import Workload
from gpg_vl.model.packing import collate, pack
from gpg_vl.model.sizes import ModelSizes, Tower, sizes_of
from tests.support.inputs import encoder_of

TEXT = Tower(
    layers=2, width=4, feed_forward=8, query=4, key=2, repeats_keys=False, gated=True, trained=True
)  # a layer has 2·16 + 2·8 + 3·32 = 144 weights
VISION = Tower(
    layers=1, width=2, feed_forward=4, query=2, key=2, repeats_keys=False, gated=False, trained=True
)  # 4·4 + 2·8 = 32
SIZES = ModelSizes(
    weights=0,
    trained=0,
    cast=0,
    kept_cast=0,
    largest=0,
    vocabulary=10,
    vocabulary_gradient=0,
    token_cost=0,
    tied=True,
    text=TEXT,
    vision=None,
    pixels=3,
    patches=4,
)


def test_bytes_of_a_decoding_step():
    # 2·144 + 10·4 weights; 2·2·2 numbers a cached token, of which there are 5 + 2·4/2
    given = {"prompts": 1, "prompt_tokens": 5, "answers": 2, "new_tokens": 4}
    assert decode_bytes(SIZES, **given, itemsize=2) == 2 * (328 + 8 * 9)
    scale = Scale(Workload(side=28, group_size=2, new_tokens=4, questions=1), (2,), 1, 1)
    assert floor(SIZES, 5, scale, rows=2, bandwidth=8000, itemsize=2) == 20  # ten steps a second, two rows


@pytest.mark.parametrize(
    ("sizes", "work", "forward"),
    [
        (SIZES, Work(tokens=5, pairs=15, targets=4), 2 * 2 * (144 * 5 + 2 * 4 * 15) + 2 * 10 * 4 * 4),
        # vision 2·(32·8 + 2·2·32), embedding 2·3·2·8, merger of 8 into 4: 2·(64 + 32) for 2 image tokens
        (replace(SIZES, vision=VISION), Work(0, 0, 0, patches=8, patch_pairs=32), 768 + 96 + 384),
    ],
)
def test_flops_of_a_gradient(sizes, work, forward):
    assert training_flops(sizes, work) == 3 * forward


def test_flops_are_what_torch_counts(policy, mixed_samples):
    """Text tokens read every token there, since a mask spares torch nothing."""
    prompt = encoder_of(policy).encode(mixed_samples)[1]
    rows = pack(prompt, [(0, (5, 6, 7, 8))], packing="none", max_tokens=1000, token_cost=1.0)
    work = replace(work_of(rows), pairs=rows[0].length ** 2)
    # torch 2.11 does not count its fused attention on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        policy(collate(rows), 1.0)
    assert training_flops(sizes_of(policy), work) / 3 == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_work_of_packed_rows(policy, mixed_samples):
    prompt = encoder_of(policy).encode(mixed_samples)[1]
    size = prompt.length
    rows = pack(prompt, [(0, (5, 6, 7)), (1, (5,))], packing="group", max_tokens=1000, token_cost=1.0)
    # the first answer's two read tokens read the prompt and 1 + 2 of their own; images of 84·112, 196·56
    images = [int(grid.prod()) for grid in prompt.grid]
    assert work_of(rows) == Work(
        tokens=size + 2,
        pairs=size * (size + 1) // 2 + 2 * size + 3,
        targets=4,
        patches=sum(images),
        patch_pairs=images[0] ** 2 + images[1] ** 2,
    )


def test_weights_of_layers_are_the_models(policy):
    sizes = sizes_of(policy)
    for tower, layers in ((sizes.text, policy.text_model.layers), (sizes.vision, policy.vision_tower.blocks)):
        matrices = sum(weight.numel() for weight in layers.parameters() if weight.dim() > 1)
        assert tower.layers * layer_weights(tower) == matrices


def test_rows_are_halved_until_they_fit():
    def measure(rows: int) -> float:
        if rows > 20:
            raise torch.OutOfMemoryError
        return 1.5

    assert largest_that_fits(measure, 64, 8) == (16, 1.5)
    with pytest.raises(torch.OutOfMemoryError):
        largest_that_fits(measure, 64, 32)


def test_the_tables_say_what_did_not_fit():
    training = {"tokens/s": 1e4, "FLOP/s": 2e14, "share of matmul peak": 0.4}
    rows = [{"rows": 64, "tokens/s": 500.0, "floor": 1000.0, "generate rows": 32, "generate tokens/s": 50.0}]
    limits = {"copy bytes/s": 3e12, "matmul FLOP/s": 5e14}
    memory = {"measured": 2**31, "forecast": 2**30, "ratio": 0.5}
    text = tables({"limits": limits, "training": training, "decode": rows, "memory": memory})
    assert "50 (32 rows: out of memory with more)" in text
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert [cells[2][column] for column in (0, 1, 2, 3, 5)] == ["64", "500", "1000", "50%", "10"]
    assert ["training, share of the matrix products", "0.4"] in cells


def test_four_groups_fill_a_micro_batch():
    longest_prompt = 553  # as the published processor renders it: 484 image tokens and the question
    row = longest_prompt + FULL.workload.group_size * (FULL.workload.new_tokens - 1)
    assert row * 4 <= 8192 < row * 5

"""The formulas of `benchmarks.gpu_session`, by hand and against torch's own count, and its tables."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.autograd.profiler_util import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.decode_rate import floor, largest_that_fits
from benchmarks.gpu_report import report
from benchmarks.kernels import Spent
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
    held=0,
    trained_bytes=0,
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
    workload = Workload(side=28, group_size=2, new_tokens=9, questions=1)
    scale = Scale(workload, rows=(2,), more_rows=(), decoded=4, copy=1, side=1)
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


def cells(text: str) -> list[list[str]]:
    """Of all tables, by line."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in rows]


def test_the_tables_say_what_did_not_fit(tmp_path):
    """Two files read as one; the later figures count."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    decode = {"stage": "decode", "rows": 64, "tokens/s": 400.0}
    gradient = {
        "tokens": 8000,
        "seconds": 0.5,
        "tokens/s": 1.6e4,
        "FLOP/s": 2e14,
        "share of matmul peak": 0.4,
    }
    lines = [decode, {"stage": "gradient"} | gradient, {"stage": "gradient", "seconds": 9.5}]
    first.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    lines = [
        decode | {"tokens/s": 500.0, "floor": 1000.0, "share": 0.5, "ms a token": 128.0},
        {"stage": "generate", "rows": 64, "generate rows": 32, "generate tokens/s": 50.0},
        {"stage": "memory", "measured": 2**31, "forecast": 2**30, "ratio": 0.5},
    ]
    second.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = cells(report([first, second]))
    theirs = "50 (32 rows: out of memory with more)"
    assert ["64", "", "500", "1,000", "50 %", "128", "", "", theirs, "10"] in found
    assert ["plain", "8,000", "0.5", "16,000", "200", "40 %"] in found  # not the stage's 9.5 seconds
    assert ["its forecast, GiB", "1"] in found
    assert ["forecast / measured", "0.5"] in found


def test_the_tables_say_which_stages_failed(tmp_path):
    file = tmp_path / "a.jsonl"
    lines = [
        {"stage": "session", "stages": ["tests", "model", "decode", "lora", "trace"], "commit": "abc"},
        {"stage": "tests", "outcomes": {"passed": 2, "failed": 1}, "failures": ["test_a: E assert"]},
        {"stage": "tests", "seconds": 3.0},
        {"stage": "model", "seconds": 4.25, "failed": "exit status 1: no room", "output": "no room"},
        {"stage": "decode", "failed": "exit status -9, 90 s at most: one\ntwo\nthree"},
        {"stage": "lora", "rows": 64, "tokens/s": 500.0},
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"stage": "tra')
    text = report([file])
    found = cells(text)
    assert ["tests", "2 passed, 1 failed", "test_a: E assert"] in found
    assert found[-5:] == [
        ["tests", "3", "done"],
        ["model", "4.25", "failed: exit status 1: no room"],
        ["decode", "", "failed: exit status -9, 90 s at most: one … three"],
        ["lora", "", "cut off, what it measured is kept"],
        ["trace", "", "not run"],
    ]
    assert text.endswith("Lines that could not be read: 1.")
    assert "Gradient" not in text and "Attention" not in text


def test_kernels_are_counted_by_name():
    def event(name: str, kind: DeviceType, *, named: bool = False) -> SimpleNamespace:
        times = {"self_device_time_total": 1500.0, "self_cpu_time_total": 500.0}
        return SimpleNamespace(name=name, device_type=kind, is_user_annotation=named, **times)

    events = [
        event("gemm" + "x" * 100, DeviceType.CUDA),
        event("gemm" + "x" * 200, DeviceType.CUDA),
        event("aten::mm", DeviceType.CPU),
        event("gpg_vl.step", DeviceType.CUDA, named=True),
    ]
    spent = Spent(events, "cuda")
    assert (list(spent.calls.values()), list(spent.ms.values())) == ([2], [3.0])
    assert dict(Spent(events, "cpu").ms) == {"aten::mm": 0.5}


def test_four_groups_fill_a_micro_batch():
    longest_prompt = 553  # as the published processor renders it: 484 image tokens and the question
    row = longest_prompt + FULL.workload.group_size * (FULL.workload.new_tokens - 1)
    assert row * 4 <= 8192 < row * 5

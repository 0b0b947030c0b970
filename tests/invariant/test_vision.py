"""The vision tower's pass equals transformers' own, and on a GPU it never waits for the device."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from transformers import AutoModelForImageTextToText
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gpg_vl.model.loading import load_policy
from gpg_vl.model.vision import image_features
from tests.support.fake_cuda import QWEN2_5_VL_3B, QWEN2_VL_2B, fake_cuda, fake_policy
from tests.support.families import save_family

SIZES = {
    "one": [(10, 8)],
    "equal": [(8, 6)] * 3,
    "as many patches": [(8, 6), (6, 8), (4, 12)],
    "unsorted": [(10, 8), (2, 2), (8, 6), (2, 2), (10, 8), (6, 8)],
}
"""Patches down and across of each image."""


@pytest.fixture(params=["qwen2_vl", "qwen2_5_vl"])
def folder(request, tmp_path: Path, tiny_folder: Path) -> Path:
    return tiny_folder if request.param == "qwen2_vl" else save_family(request.param, tmp_path, tiny_folder)


def images(sizes: list[tuple[int, int]], width: int = 1176) -> tuple[Tensor, Tensor]:
    """Pixels (patches, width) and grid (images, 3)."""
    grid = torch.tensor([[1, *size] for size in sizes])
    generator = torch.Generator().manual_seed(0)
    return torch.randn(int(grid.prod(-1).sum()), width, generator=generator), grid


def gradient(tower: torch.nn.Module, features: Tensor) -> Tensor:
    tower.zero_grad()
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in tower.parameters()])


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_features_and_gradients_are_transformers_own(folder, sizes):
    policy = load_policy(str(folder))
    theirs = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    pixels, grid = images(sizes, policy.vision_tower.patch_embed.proj.weight[0].numel())
    expected = torch.cat(theirs.model.get_image_features(pixels, grid, return_dict=True).pooler_output)
    found = image_features(policy.model.model, pixels, grid)
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()
    theirs_gradient = gradient(theirs.model.visual, expected)
    difference = gradient(policy.vision_tower, found) - theirs_gradient
    assert difference.norm() < 2e-6 * theirs_gradient.norm()


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_attention_that_is_told_lengths_on_the_device_is_told_the_right_ones(folder, sizes, monkeypatch):
    """`flash_attention_2` runs on GPUs only: a stand-in reads what it would be given."""

    def stand_in(module, query, key, value, attention_mask, cu_seq_lens_q, max_length_q, **options: Any):
        lengths = cu_seq_lens_q.diff().tolist()
        assert max_length_q == max(lengths)
        parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
        scaling = options["scaling"]
        read = [
            sdpa_attention_forward(module, *part, None, scaling=scaling, is_causal=False) for part in parts
        ]
        return torch.cat([one for one, _ in read], dim=1), None

    policy = load_policy(str(folder))
    pixels, grid = images(sizes, policy.vision_tower.patch_embed.proj.weight[0].numel())
    expected = image_features(policy.model.model, pixels, grid)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_stand_in", stand_in)
    monkeypatch.setattr(policy.vision_tower.config, "_attn_implementation_internal", "flash_stand_in")
    found = image_features(policy.model.model, pixels, grid)
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize(
    ("model", "sizes", "calls"),
    [
        (QWEN2_VL_2B, [(44, 44)] * 4, 32),
        (QWEN2_VL_2B, [(6, 6)] * 64, 32),
        (QWEN2_VL_2B, [(44, 44), (6, 6)] * 8, 64),
        # windows of 8·8, 8·4, 4·8 and 4·4 patches in 28 layers, images in four
        (QWEN2_5_VL_3B, [(44, 44)] * 4, 28 * 3 + 4),
        (QWEN2_5_VL_3B, [(6, 6)] * 64, 32),
    ],
)
def test_a_pass_waits_for_nothing_and_calls_attention_once_a_size(model, sizes, calls):
    with fake_cuda() as kernels, torch.no_grad():
        policy = fake_policy(model)
        grid = torch.tensor([[1, *size] for size in sizes])
        pixels = torch.empty(int(grid.prod(-1).sum()), 1176, device="cuda")
        kernels.reset()
        with policy.autocast():
            features = image_features(policy.model.model, pixels, grid)
    assert features.device.type == "cuda"
    assert kernels.copies_back == 0
    assert kernels.launched["scaled_dot_product_attention"] == calls
    assert kernels.total < 2000 and "convolution" not in kernels.launched


def test_a_wait_would_show():
    """transformers' own pass, with grids on the device, reads them back."""
    with fake_cuda(), torch.no_grad():
        policy = fake_policy()
        pixels, grid = torch.empty(36, 1176, device="cuda"), torch.tensor([[1, 6, 6]], device="cuda")
        with policy.autocast(), pytest.raises(DataDependentOutputException):
            policy.model.model.get_image_features(pixels, grid)

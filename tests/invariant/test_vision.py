"""The vision tower's pass equals transformers' own, and on a GPU it never waits for the device."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException
from transformers import AutoModel, AutoModelForImageTextToText
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gpg_vl.model.loading import load_policy
from gpg_vl.model.vision import VISION_ATTENTION, image_features, prepare_tower
from tests.support.fake_cuda import QWEN2_5_VL_3B, QWEN2_VL_2B, fake_cuda, fake_policy
from tests.support.families import save_family

SIZES = {
    "one": [(10, 8)],
    "equal": [(8, 6)] * 3,
    "as many patches": [(8, 6), (6, 8), (4, 12)],
    "unsorted": [(10, 8), (2, 2), (8, 6), (2, 2), (10, 8), (6, 8)],
}
"""Patches down and across of each image."""


TABLES = {
    "qwen3_vl": ("Qwen3VLConfig", {"deepstack_visual_indexes": [0, 2]}),
    "qwen3_vl_moe": ("Qwen3VLMoeConfig", {"deepstack_visual_indexes": [0, 2]}),
    "qwen3_5": ("Qwen3_5Config", {}),
}
"""Towers with a table of position embeddings: the configuration's class, and what else the tower has."""
TEXT = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1, "vocab_size": 64}
TOWER = {
    "hidden_size": 48,
    "out_hidden_size": 48,
    "intermediate_size": 96,
    "depth": 4,
    "num_heads": 3,
    "num_position_embeddings": 36,  # 6 by 6: sides are interpolated both ways
    "initializer_range": 0.08,
}


def base_model(name: str, tower: dict[str, Any], attention: str = VISION_ATTENTION) -> Any:
    """A base model of `TABLES`, whose text is of no interest."""
    config, extra = TABLES[name]
    text = TEXT | ({"num_experts": 2, "num_experts_per_tok": 1} if name.endswith("moe") else {})
    config = getattr(transformers, config)(text_config=text, vision_config=tower | extra)
    config._attn_implementation = {"text_config": "sdpa", "vision_config": attention}
    model = AutoModel.from_config(config)
    if attention == VISION_ATTENTION:
        prepare_tower(model.visual)
    return model


@pytest.fixture(params=["qwen2_vl", "qwen2_5_vl", *TABLES])
def models(request, tmp_path: Path, tiny_folder: Path) -> tuple[Any, Any]:
    """The base model as it is used here, and transformers' own with the same weights."""
    if request.param in TABLES:
        torch.manual_seed(0)
        ours, theirs = base_model(request.param, TOWER), base_model(request.param, TOWER, "sdpa")
        theirs.load_state_dict(ours.state_dict())
        return ours, theirs
    folder = tiny_folder
    if request.param != "qwen2_vl":
        folder = save_family(request.param, tmp_path, tiny_folder)
    theirs = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return load_policy(str(folder)).model.model, theirs.model


def images(sizes: list[tuple[int, int]], tower: Any) -> tuple[Tensor, Tensor]:
    """Pixels (patches, width) and grid (images, 3)."""
    grid = torch.tensor([[1, *size] for size in sizes])
    generator = torch.Generator().manual_seed(0)
    width = tower.patch_embed.proj.weight[0].numel()
    return torch.randn(int(grid.prod(-1).sum()), width, generator=generator), grid


def features(model: Any, pixels: Tensor, grid: Tensor) -> Tensor:
    """(1 + DeepStack's layers, image tokens, H)"""
    found = image_features(model, pixels, grid)
    return torch.stack([found.tokens, *found.layers])


def their_features(model: Any, pixels: Tensor, grid: Tensor) -> Tensor:
    """The same of transformers' own tower."""
    seen = model.visual(pixels, grid, return_dict=True)
    return torch.stack([seen.pooler_output, *getattr(seen, "deepstack_features", ())])


def gradient(tower: torch.nn.Module, features: Tensor) -> Tensor:
    tower.zero_grad()
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in tower.parameters()])


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_features_and_gradients_are_transformers_own(models, sizes):
    ours, theirs = models
    pixels, grid = images(sizes, ours.visual)
    expected, found = their_features(theirs, pixels, grid), features(ours, pixels, grid)
    deep = getattr(theirs.config.vision_config, "deepstack_visual_indexes", ())
    assert found.shape == expected.shape and len(found) == 1 + len(deep)
    for layer, same in zip(found, expected, strict=True):
        assert (layer - same).abs().max() < 2e-6 * same.abs().max()
    theirs_gradient = gradient(theirs.visual, expected)
    difference = gradient(ours.visual, found) - theirs_gradient
    assert difference.norm() < 2e-6 * theirs_gradient.norm()


def test_sizes_seen_before_are_not_worked_out_again(models, monkeypatch):
    model, _ = models
    pixels, grid = images(SIZES["unsorted"], model.visual)
    expected = features(model, pixels, grid)
    for name in ("position_ids", "window_index", "interpolation_indices_and_weights"):
        monkeypatch.delattr(f"gpg_vl.model.vision.get_vision_{name}")
    assert torch.equal(features(model, pixels, grid), expected)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_attention_that_is_told_lengths_on_the_device_is_told_the_right_ones(models, sizes, monkeypatch):
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

    model, _ = models
    pixels, grid = images(sizes, model.visual)
    expected = features(model, pixels, grid)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flash_stand_in", stand_in)
    monkeypatch.setattr(model.visual.config, "_attn_implementation_internal", "flash_stand_in")
    assert (features(model, pixels, grid) - expected).abs().max() < 2e-6 * expected.abs().max()


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
            found = image_features(policy.model.model, pixels, grid).tokens
    assert found.device.type == "cuda"
    assert kernels.copies_back == 0
    assert kernels.launched["scaled_dot_product_attention"] == calls
    assert kernels.total < 2000 and "convolution" not in kernels.launched


@pytest.mark.parametrize(
    ("name", "layers", "sizes", "calls"),
    [("qwen3_vl", 3, [(44, 44), (6, 6)] * 8, 54), ("qwen3_5", 0, [(6, 6)] * 64, 27)],
)
def test_neither_does_one_with_a_table_of_positions(name, layers, sizes, calls, monkeypatch):
    monkeypatch.setitem(TABLES, name, (TABLES[name][0], {}))  # transformers' defaults are published sizes
    with fake_cuda() as kernels, torch.no_grad():
        with torch.device("cuda"):
            model = base_model(name, {})
        grid = torch.tensor([[1, *size] for size in sizes])
        pixels = torch.empty(int(grid.prod(-1).sum()), 1536, device="cuda")
        kernels.reset()
        with torch.autocast("cuda", torch.bfloat16):
            found = image_features(model, pixels, grid)
    assert len(found.layers) == layers
    assert {one.shape for one in (found.tokens, *found.layers)} == {(len(pixels) // 4, 3584)}
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

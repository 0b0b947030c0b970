"""Where weights go, and which kernels read them; a device without memory stands in for a GPU."""

import pytest
import torch

from gpg_vl.config import ModelConfig
from gpg_vl.model import loading
from gpg_vl.model.adapt import choose_weights
from gpg_vl.model.families import families
from gpg_vl.model.loading import choose_kernels, load_weights

QWEN2_VL, META = families.get("qwen2_vl"), torch.device("meta")


@pytest.fixture
def without_values(monkeypatch):
    monkeypatch.setattr(loading, "nonfinite_weights", lambda weights: [])


def test_weights_go_to_the_device(tiny_folder, without_values):
    model = load_weights(str(tiny_folder), QWEN2_VL, device=META)
    assert {weight.device for weight in model.parameters()} == {META}
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_adapters_go_where_their_base_is(policy, tiny_folder, tmp_path, without_values):
    choose_weights(policy, ModelConfig(path=str(tiny_folder), lora_rank=2))
    policy.save(tmp_path / "adapter", {})
    with pytest.warns(UserWarning, match="lora_.*no-op"):  # to a device without memory nothing is copied
        model = load_weights(str(tmp_path / "adapter"), QWEN2_VL, device=META)
    adapters = [weight.device for name, weight in model.named_parameters() if "lora_" in name]
    assert len(adapters) == 2 * 2 * 7 and set(adapters) == {META}


@pytest.mark.parametrize(("device", "left"), [("cpu", True), ("cuda", False)])
def test_a_gpu_reads_without_cudnn(device, left):
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        choose_kernels(torch.device(device))
        assert torch.backends.cuda.cudnn_sdp_enabled() == left
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)

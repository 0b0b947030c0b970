"""What of DeepSpeed's settings is followed, left out and refused."""

import json

import pytest

from gpg_vl.errors import ConfigurationError
from gpg_vl.runtime.deepspeed_settings import FILE, asked_numbers, check_asked, not_followed, usable

ZERO = {"zero_optimization": {"stage": 2}}


def test_what_is_ours_or_off_or_auto_is_left_out():
    settings = {
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": 4,
        "gradient_clipping": 0.1,
        "fp16": {"enabled": False, "loss_scale": 0},
        "bf16": {"enabled": "auto"},
        "amp": "auto",
        "optimizer": {},
        "curriculum_learning": {"enabled": False},
        "sparse_gradients": False,
        "communication_data_type": "fp32",
        "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto", "offload_param": {"device": "auto"}},
    }
    kept = {"communication_data_type": "fp32", "zero_optimization": {"stage": 3, "offload_param": {}}}
    assert usable(settings, "ds.json") == kept
    assert usable(kept, "ds.json") == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": {"type": "Adam", "params": {"lr": "auto"}}}, "remove 'optimizer'.*optim.* decides"),
        ({"scheduler": {"type": "WarmupLR"}}, "remove 'scheduler'.*optim.* decides"),
        ({"bf16": {"enabled": True}}, "remove 'bf16'.*model.precision decides"),
        ({"fp16": {"enabled": True, "loss_scale": 8}}, "remove 'fp16'.*model.precision decides"),
        ({"fp16": True}, "remove 'fp16'"),
        ({"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}, "remove 'torch_autocast'"),
        ({"gradient_allreduce_op": "sum"}, "remove 'gradient_allreduce_op'.*not be what config.yaml says"),
        ({"gradient_predivide_factor": 4.0}, "remove 'gradient_predivide_factor'"),
        ({"data_efficiency": {"enabled": True}}, "remove 'data_efficiency'"),
        ({"gradient_acumulation_steps": 4}, "Did you mean 'gradient_accumulation_steps'"),
        ({"zero_optimization": {"stage": 3, "zero_quantized_weights": True}}, "'zero_quantized_weights'"),
        ({"zero_optimization": {"stage": 2, "zenflow": {"topk_ratio": 0.1}}}, "remove 'zenflow'"),
        ({"zero_optimization": {"stage": 4}}, "stage is 1 to 3 here, got 4"),
        ({"zero_optimization": {}}, "stage is 1 to 3 here, got 0; for 0 use ddp"),
        ({"zero_optimization": {"stage": "auto"}}, "stage is 1 to 3 here, got 'auto'"),
        ({"zero_optimization": {"stage": True}}, "stage is 1 to 3 here, got True"),
        ({"zero_optimization": {"stage": 3, "offload_param": "cpu"}}, "'offload_param' must be a table"),
        ({"zero_optimization": None}, "'zero_optimization' must be a table"),
        ({"zero_optimization": True}, "'zero_optimization' must be a table"),
    ],
)
def test_what_would_train_otherwise_is_refused(settings, message):
    with pytest.raises(ConfigurationError, match=f"^ds.json: .*{message}"):
        usable(ZERO | settings, "ds.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[1]", "no JSON object"),
        ("{}", "zero_optimization"),
        (
            '{"zero_optimization": {"stage": 1}, "zero_optimization": {"stage": 3}}',
            "'zero_optimization' stands there twice",
        ),
    ],
)
def test_a_file_that_says_nothing_is_refused(tmp_path, monkeypatch, text, message):
    file = tmp_path / "ds.json"
    monkeypatch.setenv(FILE, str(file))
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        check_asked()


@pytest.mark.parametrize("stage", ["4", "0", "-1", "two", ""])
def test_a_stage_that_is_none_is_refused(monkeypatch, stage):
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", stage)
    with pytest.raises(ConfigurationError, match="the ZeRO stage is 1 to 3"):
        check_asked()


def test_numbers_that_are_not_followed_are_named(tmp_path, monkeypatch):
    assert not_followed(asked_numbers(), 1.0) == []
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    monkeypatch.setenv("ACCELERATE_GRADIENT_CLIPPING", "1.0")
    assert not_followed(asked_numbers(), 1.0) == []
    assert not_followed(asked_numbers(), 0.5) == ["gradient_clipping 1.0 (optim.max_grad_norm decides)"]
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(ZERO | {"gradient_accumulation_steps": 4, "train_batch_size": "auto"}))
    monkeypatch.setenv(FILE, str(file))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    four = "gradient_accumulation_steps 4 (run.micro_batch_tokens decides)"
    assert not_followed(asked_numbers(), 1.0) == [four]

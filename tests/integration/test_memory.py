"""The memory forecast against the measured peak of real training steps."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from gpg_vl.config import AlgorithmConfig, DataConfig, ModelConfig, RolloutConfig, RunConfig, TrainConfig
from gpg_vl.model.loading import load_policy
from gpg_vl.model.sizes import sizes_of
from gpg_vl.model.tiny import TinySize, save_tiny
from gpg_vl.preflight.fits import model_sizes
from tests.support.families import MODELS, save_family
from tests.support.memory import TOLERANCE, forecast_and_peak
from tests.support.training import REWARD

DEEP = TinySize(hidden=192, layers=4, heads=6, kv_heads=2, feed_forward=704, vision_hidden=96)
WIDE_VOCABULARY = TinySize(vocabulary=20_000)
SEEING = TinySize(layers=1, vision_hidden=192, vision_layers=4)
LARGE_IMAGES = ModelConfig(min_pixels=60_000)
# Budgets that rows of these lengths fill: a forecast takes every micro-batch for full.
THREE_ROWS, TWO_ROWS = RunConfig(micro_batch_tokens=1010), RunConfig(micro_batch_tokens=810)


@pytest.mark.parametrize(
    ("size", "model", "run"),
    [
        (DEEP, ModelConfig(), THREE_ROWS),
        (WIDE_VOCABULARY, ModelConfig(precision="bf16"), THREE_ROWS),
        (SEEING, replace(LARGE_IMAGES, precision="bf16"), TWO_ROWS),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (DEEP, ModelConfig(), replace(THREE_ROWS, packing="none")),
                (DEEP, ModelConfig(precision="bf16"), THREE_ROWS),
                (DEEP, ModelConfig(gradient_checkpointing=True), THREE_ROWS),
                (DEEP, ModelConfig(freeze_vision=True), THREE_ROWS),
                (DEEP, ModelConfig(lora_rank=8), THREE_ROWS),
                (WIDE_VOCABULARY, ModelConfig(), THREE_ROWS),
                (SEEING, LARGE_IMAGES, TWO_ROWS),
                (SEEING, replace(LARGE_IMAGES, gradient_checkpointing=True), TWO_ROWS),
            )
        ),
    ],
)
def test_forecast_within_15_percent(size, model, run, scenes_folder, tmp_path):
    path = save_tiny(tmp_path / "model", ["Which is nearer?"], size)
    config = TrainConfig(
        out=str(tmp_path / "run"),
        model=replace(model, path=str(path)),
        data=DataConfig(train=[str(scenes_folder)]),
        rollout=RolloutConfig(group_size=4, max_new_tokens=34, stop=[]),
        algorithm=AlgorithmConfig(questions_per_step=9, max_rounds=1),
        rewards={f"{REWARD}:letters": 1.0},
        run=replace(run, threads=1),
    )
    # A process of its own: what earlier tests left behind would be released while this one measures.
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
        expected, measured = fresh.submit(forecast_and_peak, config).result()
    assert expected == pytest.approx(measured, rel=TOLERANCE)


@pytest.mark.parametrize("family", ["qwen2_vl", *MODELS])
def test_sizes_from_config_alone_equal_the_loaded_model(family, tiny_folder, tmp_path):
    path = tiny_folder if family == "qwen2_vl" else save_family(family, tmp_path / "model", tiny_folder)
    assert model_sizes(ModelConfig(path=str(path)), download=False) == sizes_of(load_policy(str(path)))


def test_sizes_follow_what_is_trained(tiny_folder):
    def trained(**choice: object) -> int:
        return model_sizes(ModelConfig(path=str(tiny_folder), **choice), download=False).trained

    everything = model_sizes(ModelConfig(path=str(tiny_folder)), download=False)
    assert everything.trained == everything.weights
    assert trained(freeze_vision=True) + trained(freeze_language=True) == everything.weights
    # rank 4, two layers: 48 → 48, 16, 16, 48 of attention, 48 ↔ 96 three times: 4·(in + out) numbers each
    assert trained(lora_rank=4) == 2 * 4 * (96 + 64 + 64 + 96 + 3 * 144)

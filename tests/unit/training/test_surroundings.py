"""Packages and launches that a run needs, checked before torch is imported."""

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import pytest

from gpg_vl.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.training import surroundings
from gpg_vl.training.surroundings import check_launch, check_packages


def config(vision_attention: str = "sdpa", trackers: tuple[str, ...] = ()) -> TrainConfig:
    return TrainConfig(
        out="runs/one",
        model=ModelConfig(path="model", vision_attention=vision_attention),
        data=DataConfig(train=["data"]),
        rewards={"choice": 1.0},
        run=RunConfig(trackers=list(trackers)),
    )


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    """No distribution is there; folders of the packages' names are, as W&B leaves one behind."""

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(surroundings, "distribution", missing)
    for name in ("wandb", "trackio", "tensorboard"):
        (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused(nothing_installed, tracker):
    needs = rf"run.trackers {tracker} needs the package {tracker}: pip install 'gpg-vl\[track\]'"
    with pytest.raises(ConfigurationError, match=needs):
        check_packages(config(trackers=(tracker,)))
    check_packages(config())


def test_trackers_that_accelerate_finds_are_accepted():
    from accelerate.tracking import get_available_trackers

    known = {"wandb", "trackio", "tensorboard"}
    found = known & {tracker.value for tracker in get_available_trackers()}
    assert "tensorboard" in found
    check_packages(config(trackers=tuple(found)))
    for tracker in known - found:
        with pytest.raises(ConfigurationError, match="needs the package"):
            check_packages(config(trackers=(tracker,)))


def test_flash_attention_needs_its_package(nothing_installed):
    with pytest.raises(
        ConfigurationError, match="flash_attention_2 needs the package flash_attn: pip install"
    ):
        check_packages(config("flash_attention_2"))


@pytest.fixture
def deepspeed_asked(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    values = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_deepspeed_needs_its_package(deepspeed_asked, nothing_installed):
    with pytest.raises(ConfigurationError, match="needs the package deepspeed"):
        check_launch(config())


def test_deepspeed_needs_a_launch(deepspeed_asked, monkeypatch):
    check_launch(config())
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="asks for DeepSpeed, but nothing launched this process"):
        check_launch(config())


@pytest.mark.parametrize(
    ("model", "optim", "reason"),
    [
        (
            {},
            {"kind": "adamw8bit"},
            r"optim\.kind adamw8bit: DeepSpeed keeps moments in fp32, and ZeRO",
        ),
        (
            {"trained_precision": "bf16"},
            {"kind": "adamw8bit"},
            r"model\.trained_precision bf16: DeepSpeed keeps weights in fp32",
        ),
        ({}, {"offload": True}, r"optim\.offload: DeepSpeed moves the moments itself: .* zero3_offload"),
    ],
)
def test_deepspeed_holds_weights_and_moments_its_own_way(deepspeed_asked, monkeypatch, model, optim, reason):
    base = config()
    asked = replace(base, model=replace(base.model, **model), optim=replace(base.optim, **optim))
    with pytest.raises(ConfigurationError, match=reason):
        check_launch(asked)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false")
    check_launch(asked)


def test_8_bit_adamw_needs_its_package(nothing_installed):
    needs = r"optim\.kind adamw8bit needs the package bitsandbytes: pip install 'gpg-vl\[bitsandbytes\]'"
    with pytest.raises(ConfigurationError, match=needs):
        check_packages(replace(config(), optim=OptimConfig(kind="adamw8bit")))


@pytest.mark.parametrize("name", ["FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_other_ways_to_spread_a_model_are_refused(monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ConfigurationError, match=f"ACCELERATE_USE_{name} is set; supported launches"):
        check_launch(config())


def test_nothing_heavy_is_imported_for_it():
    code = "import sys, gpg_vl.training.surroundings, gpg_vl.cli.launch_file; print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "False"

"""What DeepSpeed would compile: nothing on a CPU, and not unannounced elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpg_vl.training.deepspeed_ops import announced

OFFLOADED = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}


def launch(settings: dict[str, Any] | None, *, main: bool = True) -> Any:
    """What is asked of an `Accelerator`; a real one needs processes."""
    plugin = None if settings is None else SimpleNamespace(deepspeed_config=settings)
    return SimpleNamespace(is_main_process=main, state=SimpleNamespace(deepspeed_plugin=plugin))


@pytest.fixture(autouse=True)
def built(tmp_path, monkeypatch):
    """Where torch keeps what it compiled; empty."""
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    return tmp_path


def test_a_long_compilation_is_announced(built, capsys):
    with announced(launch(OFFLOADED)):
        said = capsys.readouterr().err
        assert said.startswith("gpg-vl: DeepSpeed compiles its AdamW") and said.count("\n") == 1
        assert f"{built}/**/cpu_adam/lock" in said


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {"zero_optimization": {"stage": 2}},
        {"zero_optimization": {"stage": 3, "offload_optimizer": None}},
        {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "none"}}},
        {**OFFLOADED, "zero_force_ds_cpu_optimizer": False},
    ],
)
def test_what_compiles_nothing_says_nothing(settings, capsys):
    with announced(launch(settings)):
        pass
    assert capsys.readouterr().err == ""


def test_what_is_compiled_already_is_not_announced(built, capsys):
    (built / "py_cpu" / "cpu_adam").mkdir(parents=True)
    (built / "py_cpu" / "cpu_adam" / "cpu_adam.so").touch()
    with announced(launch(OFFLOADED)):
        pass
    assert capsys.readouterr().err == ""


def test_one_process_speaks(capsys):
    with announced(launch(OFFLOADED, main=False)):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero2", "zero3_offload"])
def test_a_launch_on_a_cpu_compiles_nothing(kind, tiny_folder, scenes_folder, tmp_path):
    cache = tmp_path / "compiled"
    command = [sys.executable, "-m", "gpg_vl", "sft", "--accelerate", kind, "--processes", "2"]
    command += ["--model.path", str(tiny_folder), "--data.train", str(scenes_folder), "--batch_size", "2"]
    command += ["--out", str(tmp_path / "run"), "--run.threads", "1", "--run.steps", "2"]
    own = {"CUDA_VISIBLE_DEVICES": "", "TORCH_EXTENSIONS_DIR": str(cache)}
    root = Path(__file__).parents[3]
    done = subprocess.run(command, env=os.environ | own, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(cache.rglob("*")) and "compiles" not in done.stderr
    assert "sft 2/2 loss" in done.stderr

"""How torch's memory on a GPU grows: a default of ours, behind what the user set."""

import subprocess
import sys

import pytest

SHOW = """
import os, sys
from gpg_vl.cli.main import main
sys.argv = ["gpg-vl", "rewards", "--help"]
try:
    main()
except SystemExit:
    pass
assert "torch" not in sys.modules
print()
print(os.environ["PYTORCH_ALLOC_CONF"])
import torch
"""
OURS = "expandable_segments:True"


@pytest.mark.skipif(sys.platform != "linux", reason="CUDA has no such segments elsewhere")
@pytest.mark.parametrize(
    ("given", "kept"), [({}, OURS), ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64")]
)
def test_the_default_is_there_before_torch_and_gives_way(given, kept, monkeypatch):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == kept


def test_torch_reads_the_users_cuda_setting_before_ours(monkeypatch):
    """A value that torch refuses tells which name it reads."""
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", OURS)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "no_such_setting:1")
    read = "import torch; torch._C._accelerator_setAllocatorSettings('max_split_size_mb:64')"
    run = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False)
    assert "no_such_setting" in run.stderr

"""Where figures come from: the machine, the checkout and the command, beside every result."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from gpg_vl.runs.folder import environment


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = next(iter(models), platform.machine())
    return {"cpu": processor, "cores": os.cpu_count(), "memory": psutil.virtual_memory().total} | _gpu()


def _gpu() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {}
    gpu = torch.cuda.get_device_properties(0)
    return {"gpu": gpu.name, "gpu_memory": gpu.total_memory, "cuda": torch.version.cuda}


def commit() -> str:
    """Of the checkout; `-dirty` behind it where files differ, and `unknown` without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"


def write_result(file: Path, module: str, figures: dict[str, Any]) -> None:
    """Figures as JSON, with everything that they depend on; makes the folder."""
    origin = {
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine() | {"load": os.getloadavg()},
        "environment": environment(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(origin | figures, indent=1))

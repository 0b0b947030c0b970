"""What a run was made with: versions and hardware, for records and for bug reports."""

import os
import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Python, platform, processor, GPUs, and the installed versions of gpg-vl and all it names as needed."""
    gpus = range(torch.cuda.device_count())
    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
        "cuda": torch.version.cuda,
        "packages": _packages(),
    }


def _packages() -> dict[str, str]:
    """Versions by name: the package, its needs, and those of its extras that are there."""
    needs = [need for need in requires("gpg-vl") or () if not re.search(r"extra == .(dev|bench)", need)]
    found = {"gpg-vl": version("gpg-vl")}
    for name in sorted({re.split(r"[^\w.-]", need)[0] for need in needs}, key=str.lower):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # of an extra, or of another platform
            continue
    return found


def as_block(values: Mapping[str, Any]) -> str:
    """An environment as lines of a name and a value, to paste into a report."""
    flat = dict(values)
    flat |= flat.pop("packages")
    width = max(map(len, flat))
    return "\n".join(f"{name:<{width}}  {_words(value)}" for name, value in flat.items())


def _words(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value or "none")

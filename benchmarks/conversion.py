"""Seconds and peak memory of `gpg-vl prepare` on a generated source.

python -m benchmarks.conversion --rows 170000 --side 64
python -m benchmarks.conversion --rows 10000 --side 640
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_IMAGES = 64
"""Distinct images; rows take them in turn."""


def write_source(folder: Path, rows: int, side: int) -> Path:
    """A .jsonl file of `rows` questions over JPEG images of noise, `side` pixels wide and high."""
    generator = np.random.default_rng(0)
    for number in range(_IMAGES):
        pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=75)
    file = folder / "rows.jsonl"
    with file.open("w") as lines:
        for row in range(rows):
            question = {"image": f"{row % _IMAGES}.jpg", "question": f"Question {row}?"}
            lines.write(json.dumps(question | {"choices": ["yes", "no"], "answer": "AB"[row % 2]}) + "\n")
    return file


def main() -> None:
    """Generate, convert in a process of its own, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=170_000)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_source(folder, given.rows, given.side)
        size = sum(file.stat().st_size for file in folder.glob("*.jpg")) / _IMAGES
        command = ["prepare", "jsonl", "--source", str(source), "--out", str(folder / "prepared")]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "gpg_vl", *command], check=True)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{given.rows} rows, images of {size / 1000:.0f} kB: {seconds:.0f} s, peak memory {peak:.0f} MiB")


if __name__ == "__main__":
    main()

"""Where real data lies, how small a model is, and what both are asked with."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from gpg_vl.model.policy import Policy
from gpg_vl.model.tiny import TinySize
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt

SHARED = Path(__file__).resolve().parents[3] / "shared"
"""Real data and processors beside the checkout; tests that need them skip where they are absent."""

SMALL = TinySize(hidden=48, layers=2, heads=3, kv_heads=1, feed_forward=96, vision_hidden=48)


def encoder_of(policy: Policy, prompt: Prompt | None = None) -> PromptEncoder:
    limits = {"min_pixels": 3136, "max_pixels": 401408}
    return PromptEncoder(policy.processor, prompt or Prompt(), family=policy.family, **limits)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image that no two pixels of are alike, so that a mix-up of patches shows."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG whose header claims this size, and that holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    return path

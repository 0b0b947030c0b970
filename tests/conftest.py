"""Fixtures: a tiny but real Qwen2-VL with its processor, and small prepared data."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import logging
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.policy import Policy, load_policy
from gpg_vl.model.tiny import TinySize, save_tiny
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt, question_text
from gpg_vl.registry import converters
from gpg_vl.types import Sample

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real data and processors beside the checkout; tests that need them skip where they are absent."""

SMALL = TinySize(hidden=48, layers=2, heads=3, kv_heads=1, feed_forward=96, vision_hidden=48)


def pytest_configure(config: pytest.Config) -> None:
    """On a GPU, what a CUDA library warns of is listed and no failure; a line of ours still is."""
    if torch.cuda.is_available():
        ours = config.getini("filterwarnings")[-1]
        for line in ("default", ours):
            config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session", autouse=True)
def logged_notes() -> None:
    """What transformers logs of its plans is a warning here, so that a run lists it too."""

    class Warn(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "deprecat" in record.getMessage().lower():
                warnings.warn(record.getMessage(), FutureWarning, stacklevel=2)

    logging.getLogger("transformers").addHandler(Warn(logging.WARNING))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small are fastest on one thread, and reductions are then the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def scene_samples() -> list[Sample]:
    return list(islice(converters.get("scenes").function("", split="train", seed=0), 48))


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory, scene_samples: list[Sample]) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_prepared(scene_samples, folder, source="", converter="scenes", version="1")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, scene_samples: list[Sample]) -> Path:
    """A tiny model, fresh from its random initialisation."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return save_tiny(folder, [question_text(sample) for sample in scene_samples], SMALL, seed=0)


@pytest.fixture
def policy(tiny_folder: Path) -> Policy:
    return load_policy(str(tiny_folder))


def encoder_of(policy: Policy, prompt: Prompt | None = None) -> PromptEncoder:
    limits = {"min_pixels": 3136, "max_pixels": 401408}
    return PromptEncoder(policy.processor, prompt or Prompt(), family=policy.family, **limits)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image that no two pixels of are alike, so that a mix-up of patches shows."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def mixed_samples() -> list[Sample]:
    """One image; two images of different sizes; text only; a long question."""
    return [
        Sample("one", "t", "How many?", "(A)", "choice", ("1", "2"), (noise(84, 84),)),
        Sample("two", "t", "Left?", "(A)", "choice", ("1", "2"), (noise(112, 84, 1), noise(60, 200, 2))),
        Sample("text", "t", "Is it?", "(A)", "choice", ("yes", "no")),
        Sample("long", "t", "Where is it? " * 8, "1", "number", (), (noise(56, 140, 3),)),
    ]

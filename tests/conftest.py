"""Fixtures: a tiny but real Qwen2-VL with its processor, and small prepared data."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "GPG_VL_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the numbers are a CPU's; `make test-gpu` runs what needs a GPU

import logging
import warnings
from itertools import islice
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported

from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.model.tiny import save_tiny
from gpg_vl.prompting.prompts import question_text
from gpg_vl.registry import converters
from gpg_vl.types import Sample
from tests.support.inputs import SMALL, noise


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


@pytest.fixture(scope="session")
def mixed_samples() -> list[Sample]:
    """One image; two images of different sizes; text only; a long question."""
    return [
        Sample("one", "t", "How many?", "(A)", "choice", ("1", "2"), (noise(84, 84),)),
        Sample("two", "t", "Left?", "(A)", "choice", ("1", "2"), (noise(112, 84, 1), noise(60, 200, 2))),
        Sample("text", "t", "Is it?", "(A)", "choice", ("yes", "no")),
        Sample("long", "t", "Where is it? " * 8, "1", "number", (), (noise(56, 140, 3),)),
    ]

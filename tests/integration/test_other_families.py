"""Commands and the app with a model that is no Qwen2-VL."""

import json
from pathlib import Path

import pytest

from gpg_vl.demo.service.models import Models
from gpg_vl.evaluation.benchmarks import PREPARED
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample
from tests.support.command_line import run
from tests.support.families import save_family
from tests.support.inputs import noise


@pytest.fixture
def model(tmp_path: Path, tiny_folder: Path) -> Path:
    return save_family("qwen3_vl", tmp_path / "model", tiny_folder)


def test_preflight_and_eval(model, scenes_folder, tmp_path, capsys):
    given = (
        "--model.path",
        model,
        "--data.train",
        json.dumps([str(scenes_folder)]),
        "--out",
        tmp_path / "run",
    )
    run("preflight", *given, "--no-model", "--rewards", '{"choice": 1.0}')
    printed = capsys.readouterr().out
    assert "memory, update" in printed and "prompt lengths" in printed
    result = tmp_path / "result.json"
    options = ("--limit", "3", "--max_new_tokens", "4", "--out", result)
    run("eval", "--model", model, "--benchmark", scenes_folder, *options)
    assert len(json.loads(result.read_text())["items"]) == 3


def test_the_app_answers_with_boxes_in_pixels_of_the_image(model):
    answerer = Models().get(str(model)).answerer(PREPARED)
    sample = Sample("box", "t", "Where?", "[[20, 35, 100, 70]]", "boxes", images=(noise(200, 140),))
    [answered] = answerer.answer([sample], 1, Sampling(max_new_tokens=4, temperature=0), step=0)
    assert len(answered.answers) == 1
    assert answerer.encoder.to_image(sample)((100, 250, 500, 500)) == pytest.approx((20, 35, 100, 70))


def test_families_are_listed(capsys):
    run("families")
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]]
    assert {"qwen2_vl", "qwen3_vl", "internvl", "gemma3", "qwen3_5"} <= set(rows)

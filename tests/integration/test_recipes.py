"""Every recipe in `configs/` passes `gpg-vl preflight --no-model` on rows of its kind."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from gpg_vl.data.ingest import write_prepared
from gpg_vl.types import Sample
from tests.support.command_line import run
from tests.support.recipes import CONFIGS, RECIPES

TRAINING = [file for file in RECIPES if "rewards" in yaml.safe_load(file.read_text())]
ANSWERS = {
    "choice": {"answer_type": "choice", "answer": "(B)", "choices": ("left", "right")},
    "giou": {"answer_type": "boxes", "answer": "[[4, 8, 40, 52]]"},
    "label": {"answer_type": "label", "answer": "passion flower"},
    "math": {"answer_type": "math", "answer": "\\frac{1}{2}"},
    "length": {"answer_type": "math", "answer": "7"},
}


def write_rows(folder: Path, reward: str, *, images: bool) -> None:
    picture = (Image.new("RGB", (84, 56), "white"),) if images else ()
    rows = [
        Sample(f"{i}", "task", f"Question {i}?", images=picture, **ANSWERS[reward])  # type: ignore[arg-type]
        for i in range(4)
    ]
    write_prepared(rows, folder, source="test", converter="test", version="1")


@pytest.mark.parametrize("recipe", TRAINING, ids=lambda file: f"{file.relative_to(CONFIGS)}")
def test_a_recipe_passes_preflight_without_its_model(recipe, tmp_path, monkeypatch):
    config = yaml.safe_load(recipe.read_text())
    [reward] = set(config["rewards"]) & set(ANSWERS)
    data = {"train": ["data/train"], **config.get("data", {})}
    for folder in [*data["train"], *data.get("validation", [])]:
        write_rows(tmp_path / folder, reward, images=recipe.parent.name != "math")
    monkeypatch.chdir(tmp_path)
    own = "train" in config.get("data", {})
    here = [] if own else ["--data.train", '["data/train"]', "--model.path", "org/model"]
    run("preflight", "--config", recipe, "--no-model", "--report", "report.json", *here)
    findings = json.loads(Path("report.json").read_text())["findings"]
    levels = {finding["check"]: finding["level"] for finding in findings}
    assert "fail" not in levels.values()
    assert levels["gold answers"] == levels["data"] == levels["rewards"] == "ok"

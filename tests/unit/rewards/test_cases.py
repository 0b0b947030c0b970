"""Answers of real models that were graded wrongly once; they lie beside the repository, or not at all."""

import json
from pathlib import Path

import pytest

from gpg_vl.prompting.transcripts import read_transcript
from gpg_vl.registry import rewards
from gpg_vl.types import Sample

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "rewards"


@pytest.mark.parametrize("name", ["choice", "number", "math", "label", "iou"])
def test_answers_of_real_models(name):
    file = CASES / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip("no answers of real models beside the repository")
    wrong = []
    for line in file.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        given = {**case["sample"], "choices": tuple(case["sample"].get("choices", ()))}
        sample = Sample("1", name, "", **given)
        completion = read_transcript(case["completion"], sample, space="image", think_opened=False)
        score = rewards.get(case["reward"]).function(completion, sample)
        if score != case["expect"]:
            wrong.append((case["sample"]["answer"], case["completion"], score, case["why"]))
    assert not wrong

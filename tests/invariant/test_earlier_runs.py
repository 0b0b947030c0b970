"""Run folders and checkpoints that earlier versions wrote."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gpg_vl.cli.main import main
from gpg_vl.demo.service import records
from gpg_vl.model.loading import load_policy
from gpg_vl.prompting.card import read_card
from gpg_vl.report.report import write_run_report

EARLIER = Path(__file__).parents[1] / "support" / "earlier_run"
"""Four steps of `train`, written when gpg_vl/ was one flat folder; the checkpoint of the second is left."""


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    shutil.copytree(EARLIER, tmp_path / "earlier")
    monkeypatch.chdir(tmp_path / "earlier")  # its paths are relative
    return Path("run")


def test_an_earlier_run_goes_on_where_it_was(run):
    before = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    main(["train", "--config", "run/config.yaml", "--resume", "auto"])
    after = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert after[:2] == before[:2]
    assert [line["step"] for line in after] == [1, 2, 3, 4]
    for old, new in zip(before[2:], after[2:], strict=True):  # on other versions sums may round differently
        assert new["reward/mean"] == pytest.approx(old["reward/mean"], abs=0.05)
        assert new["groups/sampled"] == old["groups/sampled"]
    assert (run / "checkpoints" / "step_000004" / "state").is_dir()
    files = records.steps(run)  # written without the weights' version, and with it
    named = {step: "version" in pq.read_schema(file).names for step, file in files.items()}
    assert named == {1: False, 2: False, 3: True, 4: True}
    assert all(records.overview(file) and records.answers(file, 0) for file in files.values())


def test_an_earlier_run_is_read(run):
    model = run / "checkpoints" / "step_000002" / "model"
    assert read_card(model)["prompt"]["template"] == "instruct"
    assert load_policy(str(model)).model_type == "qwen2_vl"
    assert write_run_report(run, {}).is_file()
    main(["eval", "--model", str(model), "--benchmark", "data", "--out", "eval.json"])
    assert len(json.loads(Path("eval.json").read_text())["items"]) == 6

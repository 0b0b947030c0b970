"""The real NLVR images, from conversion to evaluation, through the command line alone."""

import json
from pathlib import Path

import pytest

from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.model.tiny import save_tiny
from gpg_vl.prompting.prompts import question_text
from tests.support.command_line import run
from tests.support.inputs import SHARED, SMALL

NLVR = SHARED / "data" / "nlvr_mini" / "dev"
pytestmark = pytest.mark.skipif(not NLVR.is_dir(), reason="NLVR's images are not in ../shared/data/nlvr_mini")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nlvr")
    for split in ("train", "validation", "test"):
        run("prepare", "nlvr", "--source", NLVR, "--out", folder / split, "--split", split)
    return {split: folder / split for split in ("train", "validation", "test")}


def test_splits_share_no_statement_and_lose_no_image(splits):
    clusters = {}
    for split, folder in splits.items():
        metas = PreparedDataset.open([str(folder)]).column("meta")
        clusters[split] = {json.loads(meta)["cluster"] for meta in metas}
    assert not clusters["train"] & clusters["test"]
    assert not clusters["train"] & clusters["validation"]
    rows = sum(json.loads((f / "manifest.json").read_text())["rows"] for f in splits.values())
    assert rows == 1978


def test_sft_train_eval_compare(splits, tmp_path, capsys):
    data = PreparedDataset.open([str(splits["train"])])
    model = save_tiny(tmp_path / "model", [question_text(data[i]) for i in range(100)], SMALL)
    train = json.dumps([str(splits["train"])])
    common = ("--data.train", train, "--model.max_pixels", "12544", "--run.threads", "1")
    size = ("--batch_size", "16", "--run.steps", "20", "--optim.learning_rate", "3e-3")
    run("sft", "--out", tmp_path / "sft", "--model.path", model, *common, *size)
    warm = tmp_path / "sft" / "checkpoints" / "step_000020" / "model"
    steps = ("--run.steps", "2", "--rollout.group_size", "4", "--rollout.max_new_tokens", "12")
    questions = ("--algorithm.questions_per_step", "4", "--algorithm.max_rounds", "2")
    run("train", "--out", tmp_path / "gpg", "--model.path", warm, *common, *steps, *questions)
    trained = tmp_path / "gpg" / "checkpoints" / "step_000002" / "model"
    out = tmp_path / "eval.json"
    sizes = ("--limit", "24", "--max_new_tokens", "12")
    run("eval", "--model", trained, "--benchmark", splits["test"], *sizes, "--out", out)
    run("eval", "--model", warm, "--benchmark", splits["test"], *sizes, "--out", tmp_path / "warm.json")
    run("compare", tmp_path / "warm.json", out, "--out", tmp_path / "compared.json")
    assert json.loads((tmp_path / "compared.json").read_text())["total"]["difference"]["count"] == 24
    evaluation = json.loads(out.read_text())
    assert evaluation["totals"]["accuracy"]["count"] == 24
    assert evaluation["chance"] == 0.5
    # Two permutations of each drawing and several drawings of each statement: the interval is clustered.
    assert len({item["cluster"] for item in evaluation["items"]}) < 24

"""The tour's part about thinking, in its smallest size."""

import json
from statistics import fmean

import yaml

from gpg_vl.runs.files import read_evaluations
from tests.support.command_line import run

SIZE = ("--train_rows", 64, "--held_out_rows", 12, "--warm_start_steps", 2, "--steps", 1)


def test_thinking_is_added_to_a_finished_tour(tmp_path, capsys):
    out = tmp_path / "tour"
    run("quickstart", "--out", out, *SIZE)
    trained = (out / "gpg" / "metrics.jsonl").read_bytes()
    assert "with thinking" not in capsys.readouterr().out
    run("quickstart", "--out", out, "--reasoning", *SIZE)
    words = capsys.readouterr().out
    assert (out / "gpg" / "metrics.jsonl").read_bytes() == trained  # nothing was trained again
    assert (
        f"{out}/reasoning/with/gpg/report.html" in words and "12 held-out questions of several steps" in words
    )
    assert f"gpg-vl quickstart --out {out} --compare grpo --reasoning" in words  # what to type next

    part = json.loads((out / "summary.json").read_text())["reasoning"]
    for way, taught in (("with", True), ("without", False)):
        folder = out / "reasoning" / way
        config = yaml.safe_load((folder / "warmstart" / "config.yaml").read_text())
        assert config["reasoning"] == taught and config["run"]["steps"] == 2
        first, last = read_evaluations(folder / "gpg")
        tokens = fmean(item["token_count"] for item in last["items"])
        assert part[way]["trained"]["tokens"] == tokens
        assert part[way]["base"]["total"] == first["totals"]
        shown = f"{last['totals']['accuracy']['mean']:.1%}, {tokens:.0f} tokens"
        assert f"{'' if taught else 'without '}{shown}" in words

    same = [
        yaml.safe_load((out / "reasoning" / way / "warmstart" / "config.yaml").read_text()) for way in part
    ]
    assert same[0]["model"]["path"] == same[1]["model"]["path"] and same[0]["data"] == same[1]["data"]

import json
import os

import pytest

from gpg_vl.demo.parts.curves import other_runs, read_curves, stamp
from gpg_vl.errors import DataError


def write(folder, values, tail=""):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": n, "reward/mean": v}) + "\n" for n, v in enumerate(values, 1)]
    (folder / "metrics.jsonl").write_text("".join(lines) + tail)
    return folder


def test_two_runs_of_unequal_length(tmp_path):
    runs = {"a": write(tmp_path / "a", [1.0, 2.0]), "b": write(tmp_path / "b", [3.0])}
    [curve], steps = read_curves(runs, smoothed=False)
    assert curve.panel.title == "Reward"
    assert curve.points.values.tolist() == [[1, 1.0, "a"], [2, 2.0, "a"], [1, 3.0, "b"]]
    assert steps == {"a": 2, "b": 1}


def test_smoothing_averages_a_tenth_of_the_steps(tmp_path):
    run = write(tmp_path / "a", [0.0] * 10 + [3.0] + [0.0] * 9)
    [curve], _ = read_curves({"a": run}, smoothed=True)
    assert curve.points["value"].tolist() == pytest.approx([0.0] * 9 + [1.0] * 3 + [0.0] * 8)


def test_every_part_of_the_reward_has_a_panel(tmp_path):
    row = {"step": 1, "reward/mean": 1, "reward/iou": 0.5, "reward/choice": 1, "tokens_per_second": 9}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row))
    curves, _ = read_curves({"a": tmp_path}, smoothed=True)
    titles = [curve.panel.title for curve in curves]
    assert titles == ["Reward", "Reward: choice", "Reward: iou", "Answer tokens a second"]


def test_a_half_written_line_is_left_for_later(tmp_path):
    run = write(tmp_path / "a", [1.0], tail='{"step": 2, "rew')
    assert read_curves({"a": run}, smoothed=True)[1] == {"a": 1}


def test_a_broken_file_says_which_line(tmp_path):
    run = write(tmp_path / "a", [1.0], tail="nonsense\n{}\n")
    with pytest.raises(DataError, match="line 2 is not JSON"):
        read_curves({"a": run}, smoothed=True)


def test_the_stamp_changes_with_the_file_only(tmp_path):
    run = write(tmp_path / "a", [1.0])
    first = stamp({"a": run})
    assert stamp({"a": run}) == first
    os.utime(run / "metrics.jsonl", ns=(1, 1))
    assert stamp({"a": run}) != first
    assert stamp({"a": tmp_path / "absent"}) == ()


def test_other_runs_are_those_beside_with_metrics(tmp_path):
    for name in ("b", "a", "own"):
        write(tmp_path / name, [1.0])
    (tmp_path / "empty").mkdir()
    assert other_runs(tmp_path / "own") == ["a", "b"]

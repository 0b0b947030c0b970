import json
import os
import re

import numpy as np
import pytest

from gpg_vl.demo.parts.curves import decimated, legend, panels
from gpg_vl.demo.service.curves import Line, other_runs, read_curves, stamp
from tests.support.evaluations import evaluation


def write(folder, values, tail=""):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": n, "reward/mean": v}) + "\n" for n, v in enumerate(values, 1)]
    (folder / "metrics.jsonl").write_text("".join(lines) + tail)
    return folder


def evaluate(folder, step, name=""):
    (folder / "eval").mkdir(exist_ok=True)
    (folder / "eval" / (name or f"step_{step:06}.json")).write_text(
        json.dumps({**evaluation(0), "step": step})
    )


def points(lines):
    return [(line.run, line.steps.tolist(), line.values.tolist()) for line in lines]


def test_two_runs_of_unequal_length(tmp_path):
    read = read_curves({"a": write(tmp_path / "a", [1.0, 2.0]), "b": write(tmp_path / "b", [3.0])})
    [curve] = read.curves
    assert curve.panel.title == "Reward"
    assert points(curve.trained) == [("a", [1.0, 2.0], [1.0, 2.0]), ("b", [1.0], [3.0])]
    assert (read.steps, read.problems) == ({"a": 2, "b": 1}, [])


def test_every_part_of_the_reward_has_a_panel(tmp_path):
    row = {"step": 1, "reward/mean": 1, "reward/iou": 0.5, "reward/choice": 1, "tokens_per_second": 9}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row))
    titles = [curve.panel.title for curve in read_curves({"a": tmp_path}).curves]
    assert titles == ["Reward", "Reward: choice", "Reward: iou", "Answer tokens a second"]


def test_evaluations_stand_in_the_panel_of_what_they_measure(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "accuracy": 0.25}))
    for step in (1, 0):
        evaluate(tmp_path, step)
    accuracy = read_curves({"a": tmp_path}).curves[0]
    assert accuracy.panel.title == "Accuracy"
    assert points(accuracy.evaluated) == [("a", [0.0, 1.0], [0.5, 0.5])]
    assert all(curve.panel.title != "Validation accuracy" for curve in read_curves({"a": tmp_path}).curves)


def test_evaluations_without_metrics_have_their_own_panels(tmp_path):
    evaluate(tmp_path, 3)
    first = read_curves({"a": tmp_path}).curves[0]
    assert (first.panel.title, points(first.evaluated)) == ("Validation accuracy", [("a", [3.0], [0.5])])


def test_a_half_written_line_is_left_for_later(tmp_path):
    run = write(tmp_path / "a", [1.0], tail='{"step": 2, "rew')
    assert read_curves({"a": run}).steps == {"a": 1}


def test_broken_files_are_told_and_the_rest_is_drawn(tmp_path):
    own, other = write(tmp_path / "a", [1.0]), write(tmp_path / "b", [1.0], tail="nonsense\n{}\n")
    evaluate(own, 1)
    (own / "eval" / "half.json").write_text("{")
    read = read_curves({"a": own, "b": other})
    assert read.steps == {"a": 1, "b": 0}
    assert len(read.curves) > 1
    assert "line 2 is not JSON" in read.problems[0] and "half.json is not JSON" in read.problems[1]


def test_an_evaluation_is_read_again_once_it_has_changed(tmp_path):
    evaluate(tmp_path, 3, "one.json")
    assert points(read_curves({"a": tmp_path}).curves[0].evaluated)[0][1] == [3.0]
    evaluate(tmp_path, 12, "one.json")
    assert points(read_curves({"a": tmp_path}).curves[0].evaluated)[0][1] == [12.0]
    (tmp_path / "eval" / "one.json").unlink()
    assert read_curves({"a": tmp_path}).curves == []


def test_the_stamp_changes_with_the_files_only(tmp_path):
    run = write(tmp_path / "a", [1.0])
    first = stamp({"a": run})
    assert stamp({"a": run}) == first
    os.utime(run / "metrics.jsonl", ns=(1, 1))
    second = stamp({"a": run})
    assert second != first
    evaluate(run, 1)
    assert stamp({"a": run}) != second
    assert stamp({"a": tmp_path / "absent"}) == ()


def test_other_runs_are_those_beside_with_metrics(tmp_path):
    for name in ("b", "a", "own"):
        write(tmp_path / name, [1.0])
    (tmp_path / "empty").mkdir()
    assert other_runs(tmp_path / "own") == ["a", "b"]


def test_a_long_line_keeps_its_peaks():
    values = np.zeros(10_000)
    values[1234], values[8765] = 5.0, -5.0
    drawn = decimated(Line("a", np.arange(10_000.0), values))
    assert len(drawn.values) <= 500
    assert dict(zip(drawn.steps, drawn.values, strict=True)).items() >= {1234.0: 5.0, 8765.0: -5.0}.items()
    assert np.all(np.diff(drawn.steps) > 0)
    short = Line("a", np.arange(500.0), values[:500])
    assert decimated(short) is short


def test_the_line_is_smoothed_and_each_step_stands_behind_it(tmp_path):
    read = read_curves({"a": write(tmp_path / "a", [0.0] * 10 + [3.0] + [0.0] * 9)})
    raw, line = re.findall(r'class="(raw|line) run-0" data-run="a" d="M([^"]*)"', panels(read, smoothed=True))
    heights = {kind: [float(point.split(",")[1]) for point in path.split()] for kind, path in (raw, line)}
    assert heights["raw"] == [156.0] * 10 + [8.0] + [156.0] * 9
    assert heights["line"] == pytest.approx([156.0] * 9 + [156 - 148 / 3] * 3 + [156.0] * 8, abs=0.05)
    bare = panels(read, smoothed=False)
    assert 'class="raw' not in bare and 'class="line run-0"' in bare


def test_figures_are_told_in_words_and_names_are_no_markup(tmp_path):
    name = "<b>&\"'"
    drawn = panels(read_curves({name: write(tmp_path / "a", [0.5, 0.25])}), smoothed=True)
    assert 'aria-label="Reward. &lt;b&gt;&amp;&quot;&#x27;: 0.5 at step 1, 0.25 at step 2"' in drawn
    assert name not in drawn


def test_a_constant_metric_is_a_line_in_the_middle(tmp_path):
    drawn = panels(read_curves({"a": write(tmp_path / "a", [0.0, 0.0])}), smoothed=False)
    assert 'd="M46.0,82.0 306.0,82.0"' in drawn


def test_the_legend_says_how_far_each_run_is(tmp_path):
    assert "No step is written" in legend(read_curves({"a": tmp_path}), smoothed=True)
    read = read_curves({"a": write(tmp_path / "a", [1.0] * 1234), "b": tmp_path})
    assert "a: step 1,234</span>" in legend(read, smoothed=False)
    assert "b: no step yet</span>" in legend(read, smoothed=False)

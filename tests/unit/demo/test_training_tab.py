"""The Training tab on small run folders."""

import asyncio
import json

import gradio as gr
import pytest

from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.demo.tabs.rollouts import rollouts_tab
from gpg_vl.demo.tabs.training import paint, training_tab
from gpg_vl.training.records import MetricsFile

SAME = [gr.skip()] * 4


@pytest.fixture
def run(tmp_path):
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        MetricsFile(tmp_path / name / "metrics.jsonl", 0).write(1, {"reward/mean": 0.5, "accuracy": 0.25})
    return tmp_path / "own"


def test_two_runs_and_what_is_written_later(run):
    choices, message, curves, painted = paint(run, "other", True, ())
    assert choices.choices == [("none", "none"), ("other", "other")]
    assert "own: step 1</span>" in message and "other: step 1</span>" in message
    assert curves.count("<figure>") == 2 and 'data-run="other"' in curves
    assert paint(run, "other", True, painted) == SAME
    MetricsFile(run / "metrics.jsonl", 1).write(2, {"reward/mean": 0.75})
    assert "own: step 2" in paint(run, "other", True, painted)[1]
    assert paint(run, "other", False, painted)[2] != curves


def test_a_run_that_began_later_is_offered(run, tmp_path):
    painted = paint(run, "none", True, ())[-1]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "metrics.jsonl").write_text(json.dumps({"step": 1, "accuracy": 1}))
    assert ("new", "new") in paint(run, "none", True, painted)[0].choices


def test_a_run_that_is_gone_is_told(run, tmp_path):
    painted = paint(run, "other", True, ())[-1]
    (tmp_path / "other" / "metrics.jsonl").unlink()
    _, message, curves, _ = paint(run, "other", True, painted)
    assert "There is no run &#x27;other&#x27; beside this one any more" in message
    assert 'data-run="own"' in curves


@pytest.mark.parametrize("name", ["../hidden", "..", None, 7, ["other"]])
def test_nothing_but_the_runs_beside_can_be_asked_for(run, tmp_path, name):
    (tmp_path.parent / "hidden").mkdir(exist_ok=True)
    (tmp_path.parent / "hidden" / "metrics.jsonl").write_text(json.dumps({"step": 1, "accuracy": 1}))
    assert 'data-run="own"' in paint(run, name, True, ())[2]
    assert "hidden:" not in paint(run, name, True, ())[1]


def test_the_first_step_is_waited_for(tmp_path):
    _, message, curves, _ = paint(tmp_path, "none", True, ())
    assert "No step is written to metrics.jsonl yet" in message
    assert "<figure" not in curves


@pytest.mark.parametrize("tab", [training_tab, rollouts_tab])
@pytest.mark.parametrize("run", [None, "empty"])
def test_a_tab_is_built_for_a_run_that_has_just_begun(tab, run, tmp_path):
    """With its events, for there may be something to show soon; without a run it says what to pass."""

    async def build():
        with gr.Blocks() as page:
            tab(DemoSettings(base="base", run=run and str(tmp_path)))
        return page

    page = asyncio.run(build())
    values = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert bool(page.fns) == (run is not None)
    assert run is not None or "--run" in values[0]

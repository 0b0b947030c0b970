"""What Rollouts shows for what its controls say, on a real small run folder."""

import gradio as gr
import pytest

from gpg_vl.data.ingest import write_prepared
from gpg_vl.demo.parts.rollout_views import ALL, THIS, Asked, View, found, place_of, scored, view
from gpg_vl.demo.parts.rollouts import settled
from gpg_vl.demo.service.rescoring import Other, offered
from gpg_vl.types import Sample
from tests.support.inputs import noise
from tests.support.runs import BAD, RIGHT, WRONG, sampled_group, write_step

HOSTILE = "<img src=x onerror=alert(1)>"
QUESTION = Sample("q", "t/Which", f"Which? {HOSTILE}", "(A)", "choice", ("x", HOSTILE))
SAME = [gr.skip()] * 9
OFFERED = offered(())


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "own"
    write_step(folder / "rollouts" / "step_000001.parquet", [sampled_group(QUESTION, [HOSTILE, RIGHT, BAD])])
    groups = [sampled_group(QUESTION, [RIGHT] * 3), sampled_group(QUESTION, [WRONG, RIGHT, BAD + HOSTILE])]
    write_step(folder / "rollouts" / "step_000002.parquet", groups)
    write_prepared([QUESTION], tmp_path / "data", source="", converter="scenes", version="1")
    return folder


def shown(run, *controls, painted=(), data=None, rewards=OFFERED):
    """What the page gets for step, text, scope, group and reward."""
    folders = (str(run.parents[1] / "data"),) if data is None else data
    return View(*view(run, folders, rewards, Asked.of(*controls), painted))


def test_a_fresh_page_opens_on_the_newest_step(run):
    first = shown(run, 0, "", THIS, None, "none")
    assert (first.step.minimum, first.step.maximum, first.step.value) == (1, 2, 2)
    assert first.group.value == "2/1"  # the first valid group
    assert [name for _, name in first.group.choices] == ["2/0", "2/1"]
    assert "Which? &lt;img src=x" in first.question
    assert [part[0] for part in first.answers.split("<h3>Answer ")[1:]] == ["2", "1", "3"]
    assert HOSTILE not in first.question + first.answers
    assert (first.rescored, first.whole.interactive, first.controls.visible) == ("", False, True)


def test_nothing_is_painted_twice(run):
    first = shown(run, 0, "", THIS, None, "none")
    controls = (first.step.value, "", THIS, first.group.value, "none")
    assert list(vars(shown(run, *controls, painted=first.painted)).values()) == SAME
    assert shown(run, *controls[:4], "format", painted=first.painted).rescored


def test_further_steps_lengthen_the_slider_only(run):
    first = shown(run, 0, "", THIS, None, "none")
    write_step(run / "rollouts" / "step_000007.parquet", [sampled_group(QUESTION, [RIGHT, WRONG])])
    later = shown(run, 2, "", THIS, "2/1", "none", painted=first.painted)
    assert later.step.maximum == 7 and later.answers == gr.skip() and later.group == gr.skip()
    assert list(vars(shown(run, 2, "", THIS, "2/1", "none", painted=later.painted)).values()) == SAME


def test_a_group_of_another_step_is_not_meant(run):
    """A step that was chosen faster than its groups arrived: the list still names the step before."""
    moved = shown(run, 1, "", THIS, "2/1", "none")
    assert moved.group.value == "1/0"
    assert moved.step._constructor_args[0].keys() == {"minimum", "maximum", "interactive"}  # the reader's own


def test_the_list_leaves_the_choice_alone(run):
    kept = shown(run, 2, "", THIS, "2/0", "none").group
    assert "value" not in kept._constructor_args[0]


def test_scored_again(run):
    again = shown(run, 2, "", THIS, "2/1", "format")
    assert "format: mean 0.333 over 3 answers; the group would be valid." in again.rescored
    assert again.answers.count("<dt>format (again)</dt>") == 3
    assert again.whole.interactive


def test_search_in_a_step(run):
    hit = shown(run, 2, "ONERROR", THIS, None, "none")
    assert hit.group.choices == [("2 · t/Which · q · valid · mean reward 0.50 · 1 found", "2/1")]
    none = shown(run, 2, HOSTILE * 2, THIS, "2/1", "none")
    assert (none.group.choices, none.group.value, none.answers) == ([], None, "")
    assert "No answer of step 2 holds" in none.question and HOSTILE not in none.question


def test_search_in_all_steps(run):
    [_, [said, listed]] = found(run, Asked.of(1, "onerror", ALL, "2/0", "none"))
    assert "2 groups with &#x27;onerror&#x27;." in said
    assert [name for _, name in listed.choices] == ["2/1", "1/0"]
    assert listed.value == "2/1"
    opened = shown(run, 2, "onerror", ALL, "1/0", "none")
    assert opened.step.value == 1 and not opened.step.interactive
    assert opened.group == gr.skip()
    assert "Answer 2" in opened.answers


def test_search_in_all_steps_ends_in_time(run):
    [said, _] = [*found(run, Asked.of(1, "onerror", ALL, None, "none"), seconds=-1)][-1]
    assert "1 group with &#x27;onerror&#x27;, the newest 1 of 2 steps searched." in said


def test_without_a_text_there_is_nothing_to_search_in_all_steps(run):
    assert list(found(run, Asked.of(1, " ", ALL, "1/0", "none"))) == [["", gr.skip()]]
    assert len(shown(run, 2, " ", ALL, None, "none").group.choices) == 2


def test_without_the_data(run):
    bare = shown(run, 2, "", THIS, "2/1", "choice", data=())
    for message in (bare.question, bare.rescored):
        assert "pass its prepared folder with --data" in message
    assert "Gold: (A)" in bare.question
    assert "again" not in bare.answers and "Answer 1" in bare.answers


@pytest.mark.parametrize("broken", ["config.yaml", "step_000002.parquet"])
def test_a_broken_file_is_a_note(run, broken):
    path = run / ("rollouts" if broken.endswith("parquet") else "") / broken
    path.write_text("a: [")
    told = shown(run, 2, "", THIS, "2/1", "none")
    assert broken in told.question
    assert bool(told.answers) == (broken == "config.yaml")


def test_a_plug_in_that_fails_to_import_is_a_note(run, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    rewards = {"broken.py:brief": Other("broken.py:brief", f"{tmp_path / 'broken.py'}:brief")}
    again = shown(run, 2, "", THIS, "2/1", "broken.py:brief", rewards=rewards)
    assert "cannot be imported: ZeroDivisionError" in again.rescored
    assert "Answer 1" in again.answers


def test_a_page_cannot_name_a_file_whose_code_is_run(run, tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\ndef brief(completion, sample): return 1.0\n")
    named = f"{tmp_path / 'own.py'}:brief"
    shown(run, 2, "", THIS, "2/1", named)
    list(scored(run, (str(run.parents[1] / "data"),), OFFERED, Asked.of(2, "", THIS, "2/1", named)))
    assert not ran.exists()


def test_records_that_come_and_go(run):
    kept = [path.rename(run / path.name) for path in (run / "rollouts").iterdir()]
    none = shown(run, 0, "", THIS, None, "none")
    assert "holds no rollout records yet" in none.missing and not none.controls.visible
    assert list(vars(shown(run, 0, "", THIS, None, "none", painted=none.painted)).values()) == SAME
    for path in kept:
        path.rename(run / "rollouts" / path.name)
    there = shown(run, 0, "", THIS, None, "none", painted=none.painted)
    assert there.controls.visible and there.answers and not there.missing
    for path in (run / "rollouts").iterdir():
        path.unlink()
    gone = shown(run, 2, "", THIS, "2/1", "none", painted=there.painted)
    assert "has no rollout records any more" in gone.missing and gone.answers == ""


def test_a_step_is_scored_in_words(run):
    data = (str(run.parents[1] / "data"),)
    *_, last = scored(run, data, OFFERED, Asked.of(2, "", THIS, "2/1", "choice"))
    assert "Step 2 scored with choice: 2 of 2 groups." in last
    for figure in ("<b>0.667</b>", "<b>1 of 2</b>", "<b>2</b>"):  # mean, valid groups, α = 2 / 1
        assert figure in last
    assert "<td>2</td><td>1</td><td>0.667</td>" in last
    assert "<b>2</b><i" in last and "<b>4</b><i" in last  # answers worth 0, and 1
    [missing] = scored(run, (), OFFERED, Asked.of(2, "", THIS, "2/1", "choice"))
    assert "pass its prepared folder with --data" in missing


def test_a_reward_that_grades_nothing_has_no_empty_histogram(run):
    data = (str(run.parents[1] / "data"),)
    *_, last = scored(run, data, OFFERED, Asked.of(2, "", THIS, "2/1", "iou"))
    assert "iou cannot grade every answer of any group here" in last
    assert "histogram" not in last and "∞" not in last and "nan" not in last


def test_a_report_that_grows_no_more_does_not_look_as_if_it_did(run):
    data = (str(run.parents[1] / "data"),)
    growing, *_, last = scored(run, data, OFFERED, Asked.of(2, "", THIS, "2/1", "choice"))
    assert "groups…</p>" in growing and "groups; stopped.</p>" in settled(growing)
    assert settled(last) == last and settled("") == ""


def test_boxes_are_drawn_with_their_overlap(run, tmp_path, tiny_folder):
    boxed = Sample("b", "t", "Where?", "[[0, 0, 50, 100]]", "boxes", images=(noise(100, 200),))
    write_prepared([boxed], tmp_path / "boxes", source="", converter="refcoco", version="1")
    texts = [f"<answer>{said}</answer>" for said in ("(0,0),(500,500)", "(0,0),(500,250)", "no")]
    write_step(run / "rollouts" / "step_000002.parquet", [sampled_group(boxed, texts)])
    model = f"model: {{path: {tiny_folder}, min_pixels: 3136, max_pixels: 401408}}"
    (run / "config.yaml").write_text(model)
    drawn = shown(run, 2, "", THIS, None, "none", data=(str(tmp_path / "boxes"),))
    assert [drawn.answers.count(f"IoU {overlap}") for overlap in ("1.00", "0.50")] == [1, 1]
    assert drawn.answers.count("IoU") == 2
    for model, reason in (("path: runs/gone", "runs/gone"), (f"path: {tiny_folder}", "model.min_pixels")):
        (run / "config.yaml").write_text(f"model: {{{model}}}")
        without = shown(run, 2, "", THIS, None, "none", data=(str(tmp_path / "boxes"),))
        assert "boxes cannot be drawn" in without.question and reason in without.question
        assert "Answer 1" in without.answers


@pytest.mark.parametrize("sent", [None, "", "x", "1", "1/", "-1/2", "1/2/3", "1" * 30 + "/1", 7, [1], "²/1"])
def test_a_page_may_send_anything(run, sent):
    assert place_of(sent) is None
    assert shown(run, sent, sent, sent, sent, None).controls.visible

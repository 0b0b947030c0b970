"""Overview and Benchmark on a real small run folder: what their own event handlers return."""

import asyncio
import json
from functools import partial
from types import SimpleNamespace

import gradio as gr
import pytest

from gpg_vl.demo.parts.chosen import choose_evaluations
from gpg_vl.demo.service.evaluations import Selection
from gpg_vl.demo.service.samples import PreparedSets
from gpg_vl.demo.service.thumbnails import Thumbnails
from gpg_vl.demo.tabs.benchmark import benchmark_tab
from gpg_vl.demo.tabs.overview import overview_tab
from tests.support.evaluations import evaluation, sampled

HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = ("step_000000", "step_000001")
NEW = (None, None)
"""What a page sends that has chosen nothing yet."""


@pytest.fixture
def run(tmp_path):
    write(tmp_path, evaluation(0), evaluation(1))
    return tmp_path


def write(run, *evaluations):
    (run / "eval").mkdir(exist_ok=True)
    for name, one in zip(NAMES, evaluations, strict=True):
        (run / "eval" / f"{name}.json").write_text(json.dumps(one))


async def page_of(build, run):
    """A page with the tab alone; a coroutine, as Gradio leaves an event loop open where none runs."""
    with gr.Blocks() as page:
        chosen = choose_evaluations(None if run is None else str(run))
        with gr.Tab("one") as tab:
            build(chosen, tab, Thumbnails(PreparedSets(())))
    return page


def handlers(build, run):
    """The handlers that the tab wires, by name; a view that is an object by its class."""
    page = asyncio.run(page_of(build, run))
    found = {getattr(event.fn, "__name__", type(event.fn).__name__): event.fn for event in page.fns.values()}
    if "painted" in found:  # as on a page that no link opened
        found["View"] = partial(found["painted"], SimpleNamespace(query_params={}))
    return found


def benchmark(run, base=None, trained=None, kind="All", task="All", text="", turned=""):
    return handlers(benchmark_tab, run)["View"](base, trained, kind, task, text, turned)


def overview(run, names=NEW):
    return handlers(overview_tab, run)["view"](*names)


def pressed(**data):
    return gr.EventData(None, data)


@pytest.mark.parametrize("build", [overview_tab, benchmark_tab])
def test_without_two_evaluations_a_tab_says_what_to_pass(build, tmp_path):
    view = {overview_tab: overview, benchmark_tab: lambda run: benchmark(run)[3]}[build]
    assert "Start the app with --run RUN_DIR" in view(None)
    assert f"The run {tmp_path.name} has no evaluation in its eval folder" in view(tmp_path)


def test_overview_tells_the_change(run):
    shown = overview(run)
    assert "50.0 → <b>50.0&nbsp;%</b>" in shown
    assert "accuracy on 4 questions" in shown and "Base: step 0" in shown and "Trained: step 1" in shown
    assert "it includes 0, so this may be luck" in shown
    assert shown.count('class="task"') == 2 and shown.count('class="interval"') == 4
    assert "1 fixed: wrong before, right after" in shown and "1 broken: right before, wrong after" in shown
    card = shown.partition('data-id="a"')[2].partition("</button>")[0]
    assert "no answer" in card and card.count("one") == 2  # the choice's text for "(A)", twice: gold too
    assert shown.index('data-id="a"') < shown.index('data-id="b"')  # what was fixed comes first


@pytest.mark.parametrize(
    ("better", "words"),
    [(True, "training helped"), (False, "training made it worse"), (None, "No question is answered better")],
)
def test_overview_says_as_plainly_what_got_worse(run, better, words):
    first, last = evaluation(0), evaluation(1)
    for one, score in ((first, better is False), (last, better in (True, False) and better)):
        for item in one["items"]:
            item["correct"] = float(score)
    write(run, first, last)
    shown = overview(run)
    assert words in shown
    assert shown.count('class="example"') == (0 if better is None else 4)
    if better is False:
        assert "0.0&nbsp;%" in shown and shown.index("4 broken") < shown.index("No question was fixed")


def test_overview_follows_benchmarks_choice(run):
    assert "Base: step 1" in overview(run, NAMES[::-1])
    assert "Both lists name the same evaluation" in overview(run, (NAMES[0], NAMES[0]))


def test_overview_of_several_answers_a_question(run):
    write(run, sampled(0), sampled(1))
    shown = overview(run)
    assert "mean@4 on 4 questions" in shown
    assert "no answer (3 of 4 answers) <small>1 of 4 right</small>" in shown
    assert "McNemar" not in shown  # shares are no right or wrong


def test_overview_of_boxes(run):
    write(run, *map(boxed, (0, 1)))
    shown = overview(run)
    assert "Mean IoU by task" in shown and "mean IoU on 4 questions" in shown and "ccuracy" not in shown
    assert "1 box, IoU 1.00" in shown and "no answer" in shown
    summary, _, test, _ = benchmark(run)[3:]
    assert "mean IoU on 4 questions" in summary and '<th scope="col">mean IoU</th>' in test


def boxed(place):
    found = evaluation(place)
    for item in found["items"]:
        right = item["correct"]
        item |= {"choices": [], "gold": "[[0, 0, 9, 9]]", "scores": {"iou": right}}
        item["boxes"] = [[0, 0, 9, 9]] if right else []
    return found


def test_what_an_overview_holds_is_escaped(run):
    first, last = evaluation(0, data=[HOSTILE]), evaluation(1, data=[HOSTILE])
    for item in (*first["items"], *last["items"]):
        item |= {"question": HOSTILE, "task": HOSTILE, "id": f'{item["id"]}"{HOSTILE}', "gold": HOSTILE}
        item |= {"answer": HOSTILE}
    write(run, first, last)
    shown = overview(run) + "".join(part for part in benchmark(run) if isinstance(part, str))
    assert HOSTILE not in shown and "&lt;img src=x" in shown and f'id="a"{HOSTILE}' not in shown


def test_a_card_opens_with_its_list(run):
    wired = handlers(overview_tab, run)
    found = Selection.from_json(wired["pick"](pressed(id="b"), *NEW))
    assert found == Selection(*NAMES, outcome="Broken", id="b")
    with pytest.raises(gr.Error, match="reload the page"):
        wired["pick"](pressed(id="../x"), *NEW)


def test_benchmark(run):
    base, trained, task, summary, figure, test, listed = benchmark(run, kind="Fixed")
    assert [choice for _, choice in base.choices] == list(NAMES)
    assert (base.value, trained.value) == NAMES
    assert task.choices == [(name, name) for name in ("All", "t/Even", "t/Odd")]
    assert "50.0 → 50.0\u00a0%" in summary
    assert figure.count('class="bar base"') == 2
    assert '<th scope="row">t/Even</th><td>2</td>' in test and "fixed: " not in test.lower()
    assert "1 of 4 questions" in listed and listed.count('class="row"') == 1 and 'data-id="a"' in listed
    assert "(A)" not in listed


def test_a_row_opens_with_its_list(run):
    wired = handlers(benchmark_tab, run)
    sent = wired["pick"](pressed(id="a"), *NEW, "Fixed", "t/Odd", "question", "")
    assert Selection.from_json(sent) == Selection(*NAMES, "Fixed", "t/Odd", "question", "a")


def test_benchmark_of_other_questions(run):
    changed = evaluation(1)
    changed["items"][0]["question"] = HOSTILE
    write(run, evaluation(0), changed)
    *_, message, figure, test, listed = benchmark(run)
    assert "The two evaluations are not over the same questions: 1 questions have another wording" in message
    assert (figure, test, listed) == ("", "", "")


def test_a_deleted_evaluation_leaves_with_its_numbers(run):
    wired = handlers(benchmark_tab, run)
    assert "50.0 → 50.0\u00a0%" in wired["View"](*NAMES, "All", "All", "", "")[3]
    for name in ("step_000002", "step_000003"):
        (run / "eval" / f"{name}.json").write_text(json.dumps(evaluation(1)))
    (run / "eval" / f"{NAMES[1]}.json").unlink()
    base, trained, _, message, *rest = wired["View"](*NAMES, "All", "All", "", "")
    assert (base.value, trained.value) == (NAMES[0], None)
    assert "The evaluation step 1 is gone" in message and rest == ["", "", ""]
    assert "The evaluation step 1 is gone" in overview(run, NAMES)


def test_long_lists_have_pages(run):
    first, last = evaluation(0), evaluation(1)
    for one in (first, last):
        item = one["items"][0]
        one["items"] = [{**item, "id": f"q{n}"} for n in range(120)]
    write(run, first, last)
    wired = handlers(benchmark_tab, run)
    listed = wired["View"](*NAMES, "All", "All", "", "")[-1]
    assert listed.count('class="row"') == 50 and "1 to 50 of 120" in listed
    turned = wired["turn"](pressed(page=3), *NAMES, "All", "All", "", "")
    last_page = wired["View"](*NAMES, "All", "All", "", turned)[-1]
    assert last_page.count('class="row"') == 20 and "101 to 120 of 120" in last_page
    # Another list begins at its first page, and so does what no page of ours sends.
    assert "1 to 50 of 120" in wired["View"](*NAMES, "Fixed", "All", "", turned)[-1]
    for sent in ("[", "7", "[true]", json.dumps([-1, ""]), turned.replace("3", '"x"', 1)):
        assert "1 to 50 of 120" in wired["View"](*NAMES, "All", "All", "", sent)[-1]


def test_a_task_that_is_not_there_is_not_asked_for(run):
    task, *_, listed = benchmark(run, task="gone")[2:]
    assert task.value == "All" and "4 of 4 questions" in listed

import base64
import io
import json
import re

import pytest
from PIL import Image, ImageColor

from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.report.drawing import COLORS
from gpg_vl.report.plots import evaluation_rows, panels_with_values, series, task_bars, training_curves
from gpg_vl.report.report import write_report
from gpg_vl.report.samples import choose, find_examples
from gpg_vl.runs.files import read_evaluations, read_metrics, read_run
from gpg_vl.stats import wilson

TASKS = ("scenes/Count", "scenes/Depth")
HOSTILE = '<script>alert("x")</script><img src=http://example.com/a.png> $title & \ud800'


def item(task, number, correct, output="<think>Two.</think><answer>(B)</answer>"):
    return {
        "id": f"{task}-{number}",
        "task": task,
        "cluster": None,
        "question": "How many <b>balls</b>?",
        "choices": ["one", "two"],
        "gold": "(B)",
        "output": output,
        "answer": "(B)" if correct else None,
        "scores": {"choice": correct, "format": 1.0},
        "correct": correct,
        "finish_reason": "stop" if correct else "length",
        "token_count": 7,
    }


def table(right, count):
    share = wilson(right, count)
    accuracy = {"mean": share.mean, "count": count, "low": share.low, "high": share.high}
    return {"accuracy": accuracy, "format": {"mean": 0.875, "count": count, "low": 0.5, "high": 1}}


def evaluation(step, right, output=None):
    """Twenty questions a task, of which the first `right` are answered right."""
    extra = () if output is None else (output,)
    items = [item(t, n, float(n < right), *extra) for t in TASKS for n in range(20)]
    return {
        "step": step,
        "model": "tiny",
        "data": ["data/validation"],
        "chance": 0.5,
        "totals": table(2 * right, 40),
        "tasks": {task: table(right, 20) for task in TASKS},
        "items": items,
    }


def metrics(steps):
    rows = []
    for step in range(1, steps + 1):
        row = {"step": step, "reward/mean": 0.5, "accuracy": 0.25, "seconds/step": 2.0}
        if step != 2:  # skipped: no group was valid
            row |= {"loss": 0.1, "grad_norm": 1.0, "entropy": 0.7, "answer_tokens": 9.0}
        rows.append(row)
    return rows


def make_run(folder, *, steps=5, evaluations=(), cut=False):
    (folder / "eval").mkdir(parents=True)
    lines = [json.dumps(row) + "\n" for row in metrics(steps)]
    if cut:
        lines.append('{"step": 6, "rew')
    if lines:
        (folder / "metrics.jsonl").write_text("".join(lines))
    for number, content in enumerate(evaluations):
        (folder / f"eval/{number}.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text("out: runs/<first>\n")
    return folder


@pytest.fixture
def trained_run(tmp_path):
    # Written in the wrong order on purpose: the step counts, not the file's name.
    evaluations = [evaluation(250, 16), evaluation(0, 10)]
    return make_run(tmp_path / "first", evaluations=evaluations)


def test_the_page_holds_the_numbers(trained_run):
    page = write_report(trained_run).read_text()
    assert "<h1>first</h1>" in page
    assert "In 250 steps, accuracy on 40 questions went from 50.0&nbsp;%" in page
    assert "<strong>80.0&nbsp;%</strong>" in page
    assert "+30.0 points" in page
    assert "Guessing would get 50.0&nbsp;%." in page
    assert "65.2–89.5" in page  # Wilson, 32 of 40
    assert "<strong>12</strong> fixed: wrong before, right after" in page
    assert "5 steps; 10 s, 2.0 s a step; 1 without an update" in page
    assert "out: runs/&lt;first&gt;" in page
    assert 'class="note"' not in page


def test_the_page_needs_nothing_but_itself(trained_run):
    path = write_report(trained_run, images=lambda name: [Image.new("RGBA", (900, 300))])
    page = path.read_text()
    assert path == trained_run / "report.html"
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,30})', page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert page.count("data:image/jpeg") == 12
    assert (trained_run / "plots/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (trained_run / "plots/tasks_dark.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_model_writes_stays_text(tmp_path):
    evaluations = [evaluation(0, 0, HOSTILE), evaluation(9, 20, HOSTILE)]
    page = write_report(make_run(tmp_path / "run", evaluations=evaluations)).read_text()
    assert "<script" not in page
    assert "<img src=http" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    assert "How many &lt;b&gt;balls&lt;/b&gt;?" in page
    assert "$title &amp; ?" in page


def test_names_of_runs_and_tasks_stay_text(tmp_path, trained_run):
    renamed = evaluation(0, 10) | {"tasks": {r"<i>$\frac$": table(1, 2), "_y": table(1, 2)}}
    run = make_run(tmp_path / "<i>$run$", evaluations=[renamed])
    page = write_report(run, others={"<u>_o$": trained_run}).read_text()
    assert "<i>" not in page
    assert "<u>" not in page


def test_the_same_run_gives_the_same_page(trained_run):
    assert write_report(trained_run).read_bytes() == write_report(trained_run).read_bytes()


def test_other_runs_get_a_column(tmp_path, trained_run):
    rival = make_run(tmp_path / "rival", evaluations=[evaluation(0, 10), evaluation(250, 13)])
    page = write_report(trained_run, others={"GRPO": rival}).read_text()
    header = re.search(r"<thead>.*?</thead>", page).group()
    assert re.findall(r">(\w+)</th>", header)[2:] == (
        ["Base", "Trained", "Change", "GRPO", "Base", "Trained", "GRPO"]
    )
    assert "65.0<small>" in page
    assert 'class="note"' not in page


def test_another_run_on_other_questions_is_pointed_out(tmp_path, trained_run):
    other = evaluation(250, 13)
    other["items"] = other["items"][:5]
    rival = make_run(tmp_path / "rival", evaluations=[other])
    page = write_report(trained_run, others={"GRPO": rival}).read_text()
    assert "GRPO was evaluated on other questions" in page


@pytest.mark.parametrize("name", ["Base", "Trained", "first"])
def test_another_run_cannot_take_a_name(trained_run, name):
    with pytest.raises(ConfigurationError, match="taken"):
        write_report(trained_run, others={name: trained_run})


def test_without_evaluations_the_page_says_so(tmp_path):
    page = write_report(make_run(tmp_path / "run")).read_text()
    assert "5 training steps, not evaluated." in page
    assert "There is no evaluation in eval/" in page
    assert "<h2>Training</h2>" in page
    assert "<h2>Sample answers</h2>" not in page


@pytest.mark.parametrize(("step", "column"), [(0, "Base"), (250, "Trained")])
def test_one_evaluation_is_shown_without_a_comparison(tmp_path, step, column):
    run = make_run(tmp_path / "run", steps=0, evaluations=[evaluation(step, 10)])
    page = write_report(run).read_text()
    assert "There is one evaluation only" in page
    assert "There are no metrics to draw" in page
    assert "the model answers 50.0&nbsp;% of 40 questions right" in page
    assert f'<th class="first" scope="col">{column}</th>' in page
    assert ">Change<" not in page
    assert page.count('class="answer"') == 12


def test_evaluations_of_different_questions_are_not_compared(tmp_path):
    last = evaluation(250, 16)
    for row in last["items"]:
        row["id"] += "-new"
    page = write_report(make_run(tmp_path / "run", evaluations=[evaluation(0, 10), last])).read_text()
    assert "on different questions" in page
    assert "Only 0 of 40 questions are in both" in page
    assert ">Change<" not in page


def test_every_evaluation_is_mentioned(tmp_path):
    evaluations = [evaluation(0, 10), evaluation(100, 12), evaluation(250, 16)]
    page = write_report(make_run(tmp_path / "run", evaluations=evaluations)).read_text()
    assert "step 0: 50.0 %, step 100: 60.0 %, step 250: 80.0 %" in page


def test_a_change_within_its_interval_is_called_luck(tmp_path):
    first, last = evaluation(0, 10), evaluation(250, 10)
    first["items"][0]["correct"], last["items"][15]["correct"] = 0.0, 0.0
    page = write_report(make_run(tmp_path / "run", evaluations=[first, last])).read_text()
    assert "The interval includes zero" in page


def test_a_cut_last_line_is_skipped_and_mentioned(tmp_path):
    run = make_run(tmp_path / "run", cut=True)
    assert [row["step"] for row in read_metrics(run)] == [1, 2, 3, 4, 5]
    assert read_run(run).cut_lines == 1
    assert "last line of metrics.jsonl is cut off" in write_report(run).read_text()


def test_a_broken_line_elsewhere_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match="line 2"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("line", ["[1]", '{"loss": 1}', "3"])
def test_a_line_without_a_step_is_an_error(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(DataError, match="line 1"):
        read_metrics(tmp_path)


def test_a_step_trained_again_counts_once(tmp_path):
    lines = ('{"step": 1, "loss": 1}', '{"step": 2, "loss": 2}', '{"step": 2, "loss": 3}')
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1}, {"step": 2, "loss": 3}]


@pytest.mark.parametrize("content", ["{", '{"step": 1}', "[]"])
def test_a_file_that_is_no_evaluation_is_an_error(tmp_path, content):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/step.json").write_text(content)
    with pytest.raises(DataError, match=r"step\.json"):
        read_evaluations(tmp_path)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match="neither metrics"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="neither metrics"):
        write_report(tmp_path / "missing")


def test_metrics_without_anything_to_plot_give_a_page(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "accuracy": NaN}\n')
    page = write_report(tmp_path).read_text()
    assert "There are no metrics to draw" in page
    assert "<h2>Training</h2>" not in page


def test_examples_mix_outcomes_and_tasks():
    first, last = evaluation(0, 10), evaluation(250, 16)
    for row in last["items"][:2]:
        row["correct"] = 0.0
    shown = choose(find_examples([first, last]))
    outcomes = [example.outcome for example in shown]
    assert outcomes == ["Fixed"] * 5 + ["Still wrong"] * 3 + ["Broken"] * 2 + ["Both right"] * 2
    assert [example.item["id"] for example in shown[:3]] == (
        ["scenes/Count-10", "scenes/Depth-10", "scenes/Count-11"]
    )


def test_examples_fill_up_where_an_outcome_is_rare():
    shown = choose(find_examples([evaluation(0, 20), evaluation(250, 20)]))
    assert [example.outcome for example in shown] == ["Both right"] * 12


def test_figures_without_data_are_errors(tmp_path):
    with pytest.raises(DataError, match="no metrics"):
        training_curves({"run": [{"step": 1}]}, tmp_path / "curves.png")
    with pytest.raises(DataError, match="no accuracies"):
        task_bars({"Base": {}}, tmp_path / "tasks.png")


def test_one_step_is_enough_for_curves(tmp_path):
    path = training_curves({"run": metrics(1)}, tmp_path / "curves.png")
    with Image.open(path) as picture:
        assert picture.width > 1000


def with_boxes(made, answers):
    """The evaluation with a gold box, and these as the answered ones of every question."""
    gold = "[[10, 10, 50, 30]]"
    items = [one | {"gold": gold, "choices": [], "boxes": answers} for one in made["items"]]
    return made | {"items": items}


def test_boxes_are_drawn_with_a_legend(tmp_path):
    evaluations = [with_boxes(evaluation(0, 10), []), with_boxes(evaluation(9, 16), [[10, 10, 50, 30]] * 2)]
    run = make_run(tmp_path / "run", evaluations=evaluations)
    page = write_report(run, images=lambda name: [Image.new("RGB", (64, 48), "white")] * 2).read_text()
    for kind, words in (("gold", "Gold: 1 box"), ("base", "Base: no box"), ("trained", "Trained: 2 boxes")):
        assert page.count(f'<li><i class="{kind}"></i>{words}</li>') == 12
    gallery = page[page.index('<div class="images drawn">') :]
    sources = re.findall(r'base64,([^"]+)', gallery)[:2]
    first, second = (Image.open(io.BytesIO(base64.b64decode(text))) for text in sources)
    assert first.size == (704, 528) and second.size == (64, 48)
    left = 10 * 11  # the frame's left edge
    colors = {first.getpixel((left, y)) for y in range(130, 310)}
    for color in (COLORS["gold"], COLORS["trained"]):
        wanted = ImageColor.getrgb(color)
        assert min(max(abs(a - b) for a, b in zip(one, wanted, strict=True)) for one in colors) < 24  # JPEG


def test_questions_without_boxes_have_no_legend(trained_run):
    page = write_report(trained_run, images=lambda name: [Image.new("RGB", (9, 9))]).read_text()
    assert '<ul class="legend">' not in page and "images drawn" not in page


def rewarded(step, right, short, ungraded=0):
    """An evaluation with a reward of its own that is `short` for every question."""
    made = evaluation(step, right)
    for one in made["items"]:
        one |= {"rewards": {"my.py:short": short}, "reward": 2 * short}
    figure = {"mean": short, "low": short - 0.5, "high": short + 0.5, "count": 40, "ungraded": ungraded}
    made["totals"] |= {"reward": figure | {"mean": 2 * short}, "reward/my.py:short": figure}
    return made


def test_own_rewards_have_a_table_and_curves(tmp_path):
    run = make_run(tmp_path / "run", evaluations=[rewarded(0, 10, -1.5, 3), rewarded(9, 16, 2.0)])
    page = write_report(run).read_text()
    table = page[page.index("<h2>Rewards</h2>") : page.index("<h2>Training</h2>")]
    assert re.findall(r'<th scope="row">([^<]+)', table) == ["weighted sum", "my.py:short"]
    assert "−1.5<small>−2 to −1</small>" in table and "2<small>1.5 to 2.5</small>" in table
    assert '<span class="up">+3.5</span><small>+3.5 to +3.5</small>' in table
    assert "Answers that could not be graded: Base, weighted sum: 3; Base, my.py:short: 3." in table
    assert "reward 4, my.py:short 2" in page  # on the cards
    runs = {"run": evaluation_rows(read_evaluations(run))}
    titles = [panel.title for panel in panels_with_values(runs)]
    validation = ["Validation accuracy", "Validation format"]
    assert titles == [*validation, "Validation reward", "Validation reward: my.py:short"]
    assert series(runs["run"], "eval/reward/my.py:short") == [(0, -1.5), (9, 2.0)]
    assert "Validation: greedy answers to held-out questions." in page


def test_a_single_evaluation_makes_no_curve():
    assert evaluation_rows([rewarded(0, 10, 1.0)]) == []

"""`gpg-vl rewards …` as a user types it."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image

from gpg_vl.cli.main import main
from gpg_vl.registry import rewards as registry
from tests.support.command_line import mistake, run

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "rewards.md").read_text()
FOOLED = Path(__file__).parents[1] / "support" / "fooled_rewards.py"
CHOICES = {"answer": "(A)", "choices": ["red", "blue"]}
NUMBER = {"answer": "12", "answer_type": "number"}
BOXES = """
from gpg_vl.registry import reward

@reward("first_edge", kind="shaping")
def first_edge(completion, sample):
    return completion.boxes[0][0] if completion.boxes else None

@reward("words", kind="shaping")
def words(completion, sample, *, scale: float):
    \"\"\"Words of the text.\"\"\"
    return scale * completion.token_count

@reward("seen", kind="shaping")
def seen(completion, sample):
    size = sample.images[0].size if sample.images else (0, 0)
    known = [sample.id, sample.task, sample.question, sample.meta.get("x"), size]
    known += [completion.finish_reason, completion.think_opened, completion.token_count]
    print(*known, sep="|")
    return 0.0

def trl(completions, answer, **columns):
    return [float(a in c) for c, a in zip(completions, answer)]
"""


@pytest.fixture
def plugins(tmp_path):
    path = tmp_path / "plugins.py"
    path.write_text(BOXES)
    return path


def rows_file(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def cells(output, first):
    """The cells of the table's row whose first one is `first`."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines()]
    [row] = [row for row in rows if row[0] == first]
    return row


def audit(capsys, *arguments):
    """Exit code and output of an audit."""
    code = 0
    try:
        run("rewards", "audit", *arguments)
    except SystemExit as exit:
        code = exit.code
    return code, capsys.readouterr().out


def test_list_show_and_usage(plugins, capsys):
    run("rewards")
    assert "  audit " in capsys.readouterr().out
    run("rewards", "list")
    output = capsys.readouterr().out
    assert cells(output, "choice")[1:3] == ["correctness", "gpg-vl (gpg_vl.rewards.choice:choice)"]
    assert cells(output, "format")[1] == "shaping" and "each tag once" in cells(output, "format")[3]
    run("rewards", "show", "number")
    output = capsys.readouterr().out
    assert "gpg-vl (gpg_vl.rewards.number:number)" in output
    assert "tolerance: float = 1e-06" in output and "Units, a degree sign" in output
    run("rewards", "show", f"{plugins}:words")
    output = capsys.readouterr().out
    assert output.startswith("words (shaping)\n") and "options   scale: float\n" in output
    assert f"from      {plugins}:words\n" in output and "Words of the text." in output
    run("rewards", "show", f"{plugins}:trl")
    assert "all of a group at once" in capsys.readouterr().out


def test_show_lists_what_stands_in_a_file(plugins, tmp_path, capsys):
    run("rewards", "show", plugins)
    shown = capsys.readouterr().out.split("\n\n\n")
    names = [block.partition("\n")[0] for block in shown]
    assert names[:3] == ["first_edge (shaping)", "words (shaping)", "seen (shaping)"]
    assert names[3:] == [f"{plugins}:trl (correctness)"]
    assert "options   scale: float\n" in shown[1] and "Words of the text." in shown[1]
    run("rewards", "show", ROOT / "docs" / "examples" / "judge.py")
    output = capsys.readouterr().out
    assert "runs      async, 32 calls at a time\n" in output and "deadline  60 s an answer\n" in output
    assert "no file 'nowhere.py'" in mistake(capsys, "rewards", "show", "nowhere.py")
    assert "is a file: name a reward in it" in mistake(capsys, "rewards", "audit", str(plugins))


def test_the_guide_shows_the_judge_that_is_tested():
    file = (ROOT / "docs" / "examples" / "judge.py").read_text()
    [shown] = [block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "judge" in block]
    for part in shown.split("\n\n\n"):
        assert part.strip() in file


def test_a_broken_package_hides_no_other(tmp_path, monkeypatch, capsys):
    info = tmp_path / "site" / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gpg_vl.rewards]\nlost = no_such_module:lost\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    run("rewards", "list")
    output = capsys.readouterr().out
    assert cells(output, "lost")[1:] == [
        "broken",
        "theirs (no_such_module:lost)",
        "No module named 'no_such_module'",
    ]
    assert cells(output, "choice")[1] == "correctness"


def test_score_writes_the_rows_with_scores(tmp_path, capsys):
    right, wrong = "<think>x</think><answer>(A)</answer>", "<answer>(B)</answer>"
    rows = [
        {"sample": CHOICES, "completion": right, "note": "kept"},
        {"sample": CHOICES, "completion": wrong},
        {"sample": NUMBER, "completion": "<think>é</think><answer>12</answer>"},
    ]
    out = tmp_path / "scored" / "out.jsonl"
    names = ("--reward", "choice=2", "--reward", "format={weight: 0.5}")
    run("rewards", "score", *names, "--file", rows_file(tmp_path, *rows), "--out", out)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    scores = [{"choice": 1.0, "format": 1.0}, {"choice": 0.0, "format": 0.0}, {"choice": None, "format": 1.0}]
    assert written == [{**row, "scores": own} for row, own in zip(rows, scores, strict=True)]
    output = capsys.readouterr().out
    assert cells(output, "choice") == ["choice", "3", "0.5", "0.7071", "0", "1", "1"]
    assert cells(output, "format") == ["format", "3", "0.6667", "0.5774", "0", "1", "0"]
    assert cells(output, "weighted sum") == ["weighted sum", "3", "1", "1.323", "0", "2.5", "0"]


def test_score_of_one_row_and_of_none(tmp_path, capsys):
    run(
        "rewards",
        "score",
        "--reward",
        "number",
        "--file",
        rows_file(tmp_path, {"sample": NUMBER, "completion": ""}),
    )
    output = capsys.readouterr().out
    assert cells(output, "number") == ["number", "1", "0", "–", "0", "0", "0"]
    assert "weighted sum" not in output
    run(
        "rewards",
        "score",
        "--reward",
        "choice",
        "--file",
        rows_file(tmp_path, {"sample": NUMBER, "completion": ""}),
    )
    assert cells(capsys.readouterr().out, "choice") == ["choice", "1", "–", "–", "–", "–", "1"]


def test_what_a_reward_sees_of_a_row(plugins, tmp_path, capsys):
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    sample = {**NUMBER, "id": "a", "task": "t", "question": "Q?", "meta": {"x": 1}, "images": ["image.png"]}
    full = {"token_count": 7, "finish_reason": "length", "think_opened": True}
    rows = [
        {"sample": NUMBER, "completion": "three short words"},
        "",
        {"sample": sample, "completion": "", **full},
    ]
    run("rewards", "score", "--reward", f"{plugins}:seen", "--file", rows_file(tmp_path, *rows))
    output = capsys.readouterr().out
    assert "1|||None|(0, 0)|eos|False|3\n" in output
    assert "a|t|Q?|1|(40, 30)|length|True|7\n" in output


@pytest.mark.parametrize(("space", "edge"), [("image", 100.0), ("grid", 64.0)])
def test_boxes_of_rows_are_in_the_space_asked_for(plugins, tmp_path, space, edge):
    sample = {"answer": "[[1, 2, 3, 4]]", "answer_type": "boxes", "meta": {"size": [640, 480]}}
    rows = rows_file(tmp_path, {"sample": sample, "completion": "<answer>(100,1),(200,2)</answer>"})
    out = tmp_path / "out.jsonl"
    name = f"{plugins}:first_edge"
    run("rewards", "score", "--reward", name, "--file", rows, "--out", out, "--box_space", space)
    assert json.loads(out.read_text())["scores"] == {name: edge}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        (b"\xff\xfe{".decode("latin-1"), "not JSON"),
        ("[1]", "not a row"),
        ({"completion": "x"}, "has no 'answer'; it has: nothing"),
        ({"sample": NUMBER}, "'completion' is missing"),
        ({"sample": NUMBER, "completion": 3}, "'completion' must be a text, got 3"),
        ({"sample": "x", "completion": "x"}, "'sample' must be a table"),
        ({"sample": {}, "completion": "x"}, "has no 'answer'; it has: nothing"),
        ({"sample": {"answer": "x"}, "completion": "x"}, "has neither 'answer_type' nor 'choices'"),
        ({"sample": {**NUMBER, "answer": {"a": 3}}, "completion": "x"}, "the answer is an object"),
        ({"sample": {**NUMBER, "answer_type": "nummer"}, "completion": "x"}, "Did you mean 'number'?"),
        ({"sample": {**NUMBER, "choices": "ab"}, "completion": "x"}, "'choices' is a list of texts"),
        ({"sample": {**NUMBER, "images": ["no.png"]}, "completion": "x"}, "no file 'no.png'"),
        ({"sample": NUMBER, "completion": "x", "token_count": -1}, "'token_count' must be a whole number"),
        ({"sample": NUMBER, "completion": "x", "finish_reason": "stopped"}, "Did you mean 'stop'?"),
        ({"sample": NUMBER, "completion": "x", "think_opened": 1}, "'think_opened' must be true or false"),
        (
            {"sample": {"answer": "[[1,2,3,4]]", "answer_type": "boxes"}, "completion": "x"},
            "meta.size as [width, height]",
        ),
        (
            {"sample": {"answer": "", "answer_type": "boxes", "meta": {"size": [0, 1]}}, "completion": ""},
            "meta.size must be [width, height]",
        ),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_written(row, message, tmp_path, capsys):
    good = {"sample": NUMBER, "completion": "x"}
    out = tmp_path / "scored" / "out.jsonl"
    arguments = ("--file", str(rows_file(tmp_path, good, row)), "--out", str(out), "--box_space", "grid")
    with pytest.raises(SystemExit) as exit:
        run("rewards", "score", "--reward", "format", *arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("gpg-vl: error: ") and "rows.jsonl, line 2" in error and message in error
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rewards", "lst"], "Did you mean 'list'?"),
        (["rewards", "show", "choise"], "Did you mean 'choice'?"),
        (["rewards", "score", "--reward", "choice", "--file", "no.jsonl"], "no file 'no.jsonl'"),
        (["rewards", "score", "--reward", "choise", "--file", "FILE"], "Did you mean 'choice'?"),
        (["rewards", "score", "--reward", "choice=much", "--file", "FILE"], "expected a weight such as 0.5"),
        (["rewards", "score", "--reward", "choice=", "--file", "FILE"], "expected a weight such as 0.5"),
        (["rewards", "score", "--reward", "choice={", "--file", "FILE"], "choice={: while parsing"),
        (
            ["rewards", "score", "--reward", "choice=true", "--file", "FILE"],
            "weight must be a number, got True",
        ),
        (
            ["rewards", "score", "--reward", "number={tolerence: 1}", "--file", "FILE"],
            "Did you mean 'tolerance'?",
        ),
        (
            ["rewards", "score", "--reward", "choice", "--reward", "choice=2", "--file", "FILE"],
            "'choice' is named twice",
        ),
        (["rewards", "score", "--reward", "choice", "--file", "FILE", "--out", "FILE"], "exists already"),
        (["rewards", "audit"], "name either a reward or a --config"),
        (["rewards", "audit", "choice", "--config", "x.yaml"], "name either a reward or a --config"),
        (["rewards", "audit", "choice", "--limit", "0"], "--limit must be at least 1"),
        (["rewards", "audit", "choice", "--data", "nowhere"], "'nowhere' is not a prepared data set"),
        (["rewards", "audit", "choise"], "Did you mean 'choice'?"),
        (
            ["rewards", "audit", "choice", "--answer_type", "number"],
            "no gold answer of the 4 samples (number)",
        ),
    ],
)
def test_mistakes(words, message, tmp_path, capsys):
    file = rows_file(tmp_path, {"sample": NUMBER, "completion": "x"})
    assert message in mistake(capsys, *[str(file) if word == "FILE" else word for word in words])


def test_audit_tells_by_its_exit_code(capsys):
    code, output = audit(capsys, "choice")
    assert code == 0 and "19 samples: built in" in output and "choice (correctness): 6 of 19" in output
    assert cells(output, "all letters listed")[2:4] == ["0", "1"] and "passed: " in output
    code, output = audit(capsys, f"{FOOLED}:in_text")
    assert code == 1
    assert cells(output, "gold answer without tags")[2:4] == ["1", "1"]
    assert cells(output, "gold answer without tags")[5] == "FAILS"
    assert "failed: " in output and "text: '" in output
    code, output = audit(capsys, f"{FOOLED}:divides", "--answer_type", "label")
    assert code == 1 and "ZeroDivisionError" in output
    code, output = audit(capsys, f"{FOOLED}:nan_if_long")
    assert code == 1 and "no finite score" in output


def test_audit_with_options_and_prompt(plugins, capsys):
    code, output = audit(capsys, "number={tolerance: 100}")
    assert code == 1 and cells(output, "wrong answer")[5] == "FAILS"
    code, output = audit(capsys, f"{plugins}:words={{scale: 0.5}}", "--prompt", "base")
    assert code == 0 and cells(output, "empty text")[2:4] == ["0.5", "0.5"]
    assert "needs the option 'scale'" in mistake(capsys, "rewards", "audit", f"{plugins}:words")


def test_audit_of_a_users_data(scenes_folder, scene_samples, capsys):
    tasks = len({sample.task for sample in scene_samples})
    code, output = audit(capsys, "choice", "--data", scenes_folder, "--limit", "3")
    assert code == 0 and f"{3 * tasks} samples: {scenes_folder}" in output
    assert cells(output, "gold answer")[1] == str(3 * tasks)
    message = mistake(
        capsys, "rewards", "audit", "number", "--data", str(scenes_folder), "--answer_type", "number"
    )
    assert "no samples of answer type 'number'" in message


def test_audit_of_recipes_and_configurations(scenes_folder, tmp_path, capsys):
    code, output = audit(capsys, "--config", files("gpg_vl.configs").joinpath("quickstart_gpg.yaml"))
    assert code == 0 and "19 samples: built in" in output
    assert cells(output, "wrong answer")[2:4] == ["0.1", "1.1"]
    file = tmp_path / "own.yaml"
    file.write_text(
        f"data: {{train: ['{scenes_folder}', nowhere]}}\nprompt: {{template: base}}\n"
        "rewards: {by_task: {scenes: {choice: 1.0, format: 1.0}}}\n"
    )
    code, output = audit(capsys, "--config", file)
    assert code == 0 and f"samples: {scenes_folder}\n" in output and "weighted sum of task scenes" in output
    file.write_text("rewards: {by_task: {count: {number: 1.0}, form: {format: 1.0}}}\n")
    code, output = audit(capsys, "--config", file)
    assert code == 1 and "weighted sum of task count" in output and "weighted sum of task form" in output
    file.write_text("rewards: {choise: 1.0}\n")
    assert "Did you mean 'choice'?" in mistake(capsys, "rewards", "audit", "--config", str(file))


def test_listing_and_showing_need_no_torch():
    code = (
        "import sys; from gpg_vl.cli.main import main; main(['rewards', 'show', 'choice']); "
        "main(['rewards', 'list']); main(['rewards', 'audit', 'choice']); print('torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    "command",
    [
        "rewards audit docs/examples/careless.py:careless",
        "rewards audit --config configs/quickstart_gpg.yaml",
        "rewards score --reward choice --reward format=0.5 --file docs/examples/answers.jsonl",
    ],
)
def test_the_guide_shows_what_the_commands_print(command, monkeypatch, capsys):
    """Line by line; milliseconds and what the guide leaves out (…) aside."""
    monkeypatch.chdir(ROOT)
    with contextlib.suppress(SystemExit):
        main(shlex.split(command))
    printed = set(_untimed(capsys.readouterr().out).splitlines())
    shown = _untimed(GUIDE.split(f"$ gpg-vl {command}", 1)[1].split("\n", 1)[1].split("```", 1)[0])
    assert len(shown.splitlines()) > 4
    assert set(shown.splitlines()) - {"…"} <= printed


def _untimed(text):
    return re.sub(r"\| \d+\.\d +\| (ok|FAILS)", r"| ms | \1", text)


def test_the_guide_lists_every_built_in_reward():
    table = GUIDE.split("## Built in", 1)[1].split("##", 1)[0]
    announced = {
        name: registry.get(name).kind
        for name, points in registry.announced().items()
        if points[0].value.startswith("gpg_vl.rewards.")
    }
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE))
    assert announced.items() <= listed.items()

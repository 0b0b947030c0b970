"""What messages and models are called on the page."""

import pytest

from gpg_vl.demo.parts.titles import title_of
from gpg_vl.demo.parts.words import figures, for_page
from tests.support.cpu_time import within_cpu_seconds

ROOTS = ("runs/own", "/srv/data/scenes/", "Qwen/Qwen2-VL-2B-Instruct")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the question is empty", "The question is empty"),
        ("nothing.", "Nothing."),
        ("max_new_tokens is 1 to 64 here", "max_new_tokens is 1 to 64 here"),
        ("runs/own/eval/a.json is not JSON", "runs/own/eval/a.json is not JSON"),
        ("model.safetensors is broken", "model.safetensors is broken"),
        ("gpg-vl eval makes one", "gpg-vl eval makes one"),
        ("'scenes' is there", "'scenes' is there"),
        ("vLLM is gone", "vLLM is gone"),
        ("", ""),
    ],
)
def test_only_plain_words_are_capitalised(text, shown):
    assert for_page(text, ROOTS) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/srv/data/scenes/data-00000.parquet", "scenes/data-00000.parquet"),
        ("/srv/data/scenes", "scenes"),
        ("/srv/data/scenes2/manifest.json", "scenes2/manifest.json"),
        ("{cwd}/runs/own/eval/a.json", "runs/own/eval/a.json"),
        ("{cwd}/runs/own2/eval/a.json", "eval/a.json"),
        ("/home/ada/x/y/z.json", "y/z.json"),
        ("/secret.json", "secret.json"),
        ("file:///home/ada/x/y/z.json", "y/z.json"),
        (r"C:\Users\ada\x\y.json", "x/y.json"),
        ("C:/Users/ada/x/y.json", "x/y.json"),
    ],
)
@pytest.mark.parametrize(
    "around", ["{} is no JSON", "cannot read {}: gone", "see ({})", "'{}' is old", "at={}, x"]
)
def test_no_absolute_path_is_shown(path, shown, around, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = around.format(shown)
    text = around.format(path.format(cwd=tmp_path))
    assert for_page(text, ROOTS) == for_page(shown, ROOTS)
    assert shown.partition(" ")[2] in for_page(text, ROOTS)


def test_a_quoted_path_may_have_blanks():
    assert for_page("cannot open '/home/ada/my runs/the eval/a b.json' today") == (
        "Cannot open 'the eval/a b.json' today"
    )
    assert for_page(r"cannot open '\\server\share\x\y.json'") == "Cannot open 'x/y.json'"


@pytest.mark.parametrize(
    "text",
    [
        "Ask https://huggingface.co/Qwen/Qwen2-VL-2B-Instruct about it",
        "Ask http://127.0.0.1:8000/v1/models again",
        "Either and/or both, 1/2 of them, data/scenes/x, ../runs/own, ~/runs/own, and 3 / 4",
        "It is don't and can't: 'it' or \"that\"",
    ],
)
def test_what_is_no_absolute_path_stays(text):
    assert for_page(text, ROOTS) == text


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("runs/quickstart/gpg/checkpoints/step_000600/model", "gpg step 600"),
        ("/home/ada/runs/gpg/checkpoints/step_000600", "gpg step 600"),
        ("gpg/checkpoints/step_000000/model/", "gpg step 0"),
        (r"C:\runs\gpg\checkpoints\step_000040\model", "gpg step 40"),
        ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-2B-Instruct"),
        ("./merged/model", "merged"),
        ("/srv/models/tiny", "tiny"),
        ("checkpoints/step_000001/model", "step 1"),
        ("model", "model"),
        ("runs/a/checkpoints/step_6_again/model", "a step_6_again"),
    ],
)
def test_models_are_called_by_run_and_step(path, title):
    assert title_of(path) == title


def test_a_message_that_repeats_a_megabyte_of_paths_is_cut_first():
    """Every path is looked for below every root: a visitor could hold up the others with one request."""
    with within_cpu_seconds(0.5):
        assert len(for_page(f"unknown set {'/a:' * 300_000}", ROOTS)) < 25_000


def test_figures_have_a_true_minus_and_a_percent_sign_apart():
    assert figures("-1.5 to -.5 points, 64.7% of step_-1") == "−1.5 to −.5 points, 64.7\u00a0% of step_-1"
    assert figures("95 % interval, 4e-12, cv-bench-2, p-1") == "95\u00a0% interval, 4e-12, cv-bench-2, p-1"

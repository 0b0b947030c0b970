import pytest

from gpg_vl.cli import main as command_line
from gpg_vl.cli.going_on import going_on
from gpg_vl.runtime.shutdown import Stopped


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--out", "runs/my run"], "go on with gpg-vl train --out 'runs/my run' --resume auto"),
        (["sft", "--resume", "runs/a", "--out", "b"], "go on with gpg-vl sft --out b --resume auto"),
        (["sft", "--resume=auto", "--out", "b"], "go on with gpg-vl sft --out b --resume auto"),
        (["train", "--rewards", '{"choice": 1}'], """gpg-vl train --rewards '{"choice": 1}' --resume auto"""),
        (["quickstart", "--out", "q"], "go on with gpg-vl quickstart --out q"),
        (["eval", "--model", "m"], "nothing is kept without --out FILE"),
        (["eval", "--out", "new.json"], ""),
        (["prepare", "scenes"], ""),
        ([], ""),
    ],
)
def test_each_command_names_what_goes_on(arguments, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = going_on(arguments)
    assert words in said and bool(said) == bool(words)


@pytest.mark.parametrize("option", [["--out", "e.json"], ["--out=e.json"]])
def test_an_evaluation_goes_on_with_the_answers_it_kept(option, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.json.partial.jsonl").touch()
    said = going_on(["eval", *option])
    assert said == f"the answers so far are kept: go on with gpg-vl eval {' '.join(option)}"


def test_a_process_of_a_launch_does_not_name_words_that_nobody_typed(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert going_on(["train", "--out", "r"]) == "go on with the same command and --resume auto"
    assert going_on(["quickstart"]) == "go on with the same command"


def test_an_interrupted_command_says_so(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(command_line.COMMANDS, "train", interrupted)
    with pytest.raises(SystemExit) as exit:
        command_line.main(["train", "--out", "r"])
    assert exit.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted; go on with gpg-vl train --out r --resume auto\n"


def test_a_stopped_run_says_what_goes_on(monkeypatch, capsys):
    def stopped():
        raise Stopped(7)

    command_line._stoppable("r", ["sft", "--out", "r"], stopped)
    said = "r: stopped after step 7, everything is saved; go on with gpg-vl sft --out r --resume auto\n"
    assert capsys.readouterr().out == said

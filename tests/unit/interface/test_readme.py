"""The program on the README runs, with a small model and few steps in place of its own."""

import json
import runpy

from tests.support.inputs import noise
from tests.support.pages import ROOT, blocks

SHORT = (
    "steps=2, algorithm={'questions_per_step': 2}, rollout={'group_size': 2, 'max_new_tokens': 4}, "
    "eval={'max_new_tokens': 4}"
)


def test_the_program_on_the_readme(tiny_folder, tmp_path, monkeypatch, capsys):
    (program,) = [code for code in blocks(ROOT / "README.md", "python") if "gpg_vl.train(" in code]
    monkeypatch.chdir(tmp_path)
    noise(56, 56).save("cubes.png")
    row = {"question": "How many?", "answer": 3, "answer_type": "number"}
    for n in range(20):
        noise(56, 56, n).save(f"{n}.png")
    rows = [json.dumps({**row, "image": f"{n}.png"}) for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    for long, short in (
        ('"Qwen/Qwen2-VL-2B-Instruct"', repr(str(tiny_folder))),
        ("steps=200", SHORT),
        ("[200]", "[2]"),
        ("samples=8", "samples=8, max_new_tokens=4"),
    ):
        assert program.count(long) == 1
        program = program.replace(long, short)
    (tmp_path / "program.py").write_text(program)
    made = runpy.run_path(str(tmp_path / "program.py"))
    assert len(made["answers"]) == 8 and list(made["run"].metrics.index) == [1, 2]
    assert "accuracy" in capsys.readouterr().out

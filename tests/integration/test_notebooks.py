"""Notebooks of docs/examples, cell by cell in one namespace, as a kernel runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import DOCS, ROOT

NOTEBOOKS = sorted((DOCS / "examples").glob("*.ipynb"))
KERNEL = """
import json, sys
namespace = {"__name__": "__main__"}
for number, cell in enumerate(json.load(sys.stdin), start=1):
    exec(compile(cell, f"<cell {number}>", "exec"), namespace)
print(json.dumps({"gain": namespace["comparison"].difference.low}))
"""


def code_cells(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_run_in_order(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps(code_cells(notebook)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["gain"] > 0.05, done.stdout


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and not [cell for cell in code if cell["outputs"] or cell["execution_count"]]

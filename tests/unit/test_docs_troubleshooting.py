"""docs/troubleshooting.md quotes what the code says, and metrics that there are."""

import ast
import re

import pytest

from tests.support.pages import DOCS, ROOT, named, tables

PAGE = DOCS / "troubleshooting.md"


def texts() -> str:
    """Every text of the code; what is filled in is `…`."""
    files = [*(ROOT / "gpg_vl").rglob("*.py"), *(ROOT / "data_prep").glob("*.py")]
    trees = (ast.parse(file.read_text()) for file in files)
    return "\n".join(filled(node) for tree in trees for node in ast.walk(tree))


def filled(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(filled(part) or "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


CODE = texts()
QUOTED = [row[0].strip("` ") for row in tables(PAGE, "it says")]


@pytest.mark.parametrize("message", QUOTED)
def test_the_code_says_it(message):
    assert message in CODE


def test_metrics_are_those_that_are_explained():
    explained = (DOCS / "metrics.md").read_text()
    rows = tables(PAGE, "in `metrics.jsonl` or the report")
    metrics = {name for row in rows for name in named(row[0]) if "." not in name}
    assert metrics and not [
        name for name in metrics if not re.search(rf"`{name.partition('/')[0]}[/`]", explained)
    ]

"""What stands on the pages of the documentation: blocks of code, commands, tables, headings."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
SHELL = ("", "bash", "sh", "console")
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^(?:\$ )?(?:gpg-vl|(?:\S+ )*-m gpg_vl) (.*)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
_PLACEHOLDERS = {"N": "1", "K": "1", "NAME": "jsonl", "SHARE": "0.2", "TEMPLATE": "base", "S": "test"}
"""What stands for a number or one of a few words in a synopsis; other capitals are any text."""


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The page's code in a language, block by block; "" is code of none."""
    return [code for named, code in _BLOCK.findall(page.read_text()) if named == language]


def shell_lines(page: Path, language: str = "") -> Iterator[str]:
    """Every line of the page's shell code, one command a line; of a block with output, those behind `$`."""
    for code in blocks(page, language):
        lines = code.replace("\\\n", " ").splitlines()
        prompted = [line for line in lines if line.startswith("$ ")]
        yield from prompted or lines


def commands(page: Path) -> list[str]:
    """Every `gpg-vl` command of the page's code, without its first word."""
    lines = (line for language in SHELL for line in shell_lines(page, language))
    return [found[1] for line in lines if (found := _COMMAND.match(line))]


def words(command: str) -> list[str]:
    """Its words without `…`; of a synopsis with every option and the first of its alternatives."""
    if "[--" in command:
        command = re.sub(r"\[[^-\]][^\]]*\]", "", command)
        command = re.sub(r"\[|\]", "", command)
        command = re.sub(r"(?<=\S)\|\S+", "", command)
    typed = [word for word in shlex.split(command, comments=True) if word != "…"]
    return [_PLACEHOLDERS.get(word, word) for word in typed]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the page's headings."""
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_BLOCK.sub("", page.read_text())):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain).strip().lower().replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if not again else f"{slug}-{again}" for slug, again in found.items()}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def tables(page: Path, first: str) -> list[list[str]]:
    """Rows of the page's tables whose first header is `first`."""
    rows: list[list[str]] = []
    wanted = False
    lines = page.read_text().splitlines()
    for line, before in zip(lines, ["", *lines], strict=False):
        if line.startswith("|") and not before.startswith("|"):
            wanted = cells(line)[0] == first
        elif line.startswith("|") and wanted and not line.startswith("|--"):
            rows.append(cells(line))
    return rows


def table(page: Path, first: str) -> list[list[str]]:
    """As `tables`, for one that has to be there."""
    rows = tables(page, first)
    assert rows, f"{page.name} has no table whose first header is {first!r}"
    return rows


def named(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]*)`", cell)

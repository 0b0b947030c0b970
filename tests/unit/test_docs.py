"""Paths and links in README and docs lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
_LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"")
_PATH = re.compile(
    r"(?<![\w./])((?:gpg_vl|rewards|data_prep|configs|demo|tests|benchmarks|docs)/[\w./-]*\w/?)"
)


def links(text: str) -> set[str]:
    found = {link or source for link, source in _LINK.findall(text)}
    return {link for link in found if not link.startswith(("http:", "https:", "mailto:"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    assert not [link for link in links(page.read_text()) if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_paths_are_on_disk(page):
    named = {path.rstrip("/") for path in _PATH.findall(page.read_text())}
    assert not [path for path in named if not list(ROOT.glob(path))]

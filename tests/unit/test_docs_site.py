"""The site of `make docs` is whole, as far as that shows without mkdocs: pages, names, texts of the code."""

import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.pages import DOCS, PAGES, ROOT, page_id

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
_DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
OWN = [page for page in DOCS.glob("*.md")]


def entries(nav: Any) -> Iterator[str]:
    """The pages that a navigation names."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values():
                yield from [part] if isinstance(part, str) else entries(part)


def test_the_navigation_names_every_page_once():
    assert sorted(entries(SITE["nav"])) == sorted(page.name for page in OWN)


def test_a_dead_link_fails_the_build():
    assert SITE["strict"] is True
    assert {SITE["validation"][kind] for kind in ("anchors", "unrecognized_links", "omitted_files")} == {
        "warn"
    }


def test_nothing_is_loaded_from_elsewhere():
    assert SITE["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & SITE.keys()


@pytest.mark.parametrize("page", OWN, ids=page_id)
def test_a_page_has_one_title(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1 and text.startswith("# ")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_generated_parts_are_of_names_that_exist(page):
    for name in _DIRECTIVE.findall(page.read_text()):
        pkgutil.resolve_name(name)

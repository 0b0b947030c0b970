"""The site of `make docs` is whole, as far as that shows without mkdocs: pages, names, texts of the code."""

import dataclasses
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import yaml

import gpg_vl
from gpg_vl.config import TrainConfig
from gpg_vl.prompting.prompts import BASE, BOXED, INSTRUCTION, KIND, TemplateName
from tests.support.pages import DOCS, PAGES, ROOT, blocks, named, page_id, table

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


PROMPTS = DOCS / "prompts.md"


def test_the_default_texts_are_those_of_the_prompts():
    assert [text.rstrip("\n") for text in blocks(PROMPTS, "text")][:3] == [INSTRUCTION, BOXED, BASE]
    assert {named(row[0])[0]: row[1] for row in table(PROMPTS, "`answer_type`")} == KIND
    templates = {named(row[0])[0] for row in table(PROMPTS, "`prompt.template`")}
    assert templates == set(get_args(TemplateName))


def defaults(kind: type, prefix: str = "") -> dict[str, Any]:
    """Default values by dotted name; None for what a factory makes."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if isinstance(item.type, type) and dataclasses.is_dataclass(item.type):
            found |= defaults(item.type, f"{prefix}{item.name}.")
        else:
            found[f"{prefix}{item.name}"] = None if item.default is dataclasses.MISSING else item.default
    return found


def test_options_and_defaults_are_those_of_the_configuration():
    known = defaults(TrainConfig)
    for option, default, *_ in table(DOCS / "options.md", "option"):
        assert known[named(option)[0]] == yaml.safe_load(default), option
    sections = {name.partition(".")[0] for name in known if "." in name}
    text = "".join(page.read_text() for page in OWN if page.name != "migrating.md")
    text += re.sub(r"^\|[^|]*\|", "|", (DOCS / "migrating.md").read_text(), flags=re.MULTILINE)  # our column
    dotted = re.findall(r"`(?:--)?([a-z]+\.[a-z_.]+[a-z_])(?= |`)", text)
    nested = {name.rpartition(".")[0] for name in known}
    strangers = {name for name in dotted if name.partition(".")[0] in sections} - known.keys() - nested
    assert not strangers


def test_every_section_of_the_options_is_on_their_page():
    shown = re.findall(r"^      heading: ([\w.]+)$", (DOCS / "options.md").read_text(), re.MULTILINE)
    nested = {name.rpartition(".")[0] for name in defaults(TrainConfig)} - {""}
    assert set(shown) == nested


def test_the_python_page_has_every_name_of_the_package():
    shown = {name.removeprefix("gpg_vl.") for name in _DIRECTIVE.findall((DOCS / "python.md").read_text())}
    assert set(gpg_vl.__all__) - {"__version__"} <= shown

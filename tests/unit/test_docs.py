"""Paths and links in README and docs lead somewhere; what they say of the code is what stands there."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gpg_vl.model.families import families
from gpg_vl.model.families.family import Family
from gpg_vl.prompting.format import PromptFormat
from gpg_vl.prompting.image_reader import ImageReader
from gpg_vl.runs.settings import _MAY_CHANGE
from tests.support.pages import PAGES, ROOT, anchors, blocks, named, page_id, table

_LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"")
_PATH = re.compile(
    r"(?<![\w./])((?:gpg_vl|rewards|data_prep|configs|demo|tests|benchmarks|docs)/[\w./-]*\w/?)"
)


def links(text: str) -> set[str]:
    found = {link or source for link, source in _LINK.findall(text)}
    return {link for link in found if not link.startswith(("http:", "https:", "mailto:"))}


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether the file is there and, of a page, the heading."""
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    assert not [link for link in links(page.read_text()) if not leads_somewhere(page, link)]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_paths_are_on_disk(page):
    named = {path.rstrip("/") for path in _PATH.findall(page.read_text())}
    assert not [path for path in named if not list(ROOT.glob(path)) + list(page.parent.glob(path))]


FAMILIES = ROOT / "docs" / "families.md"


def test_code_under_a_files_name_is_the_files():
    quoted = [
        (ROOT / path, code)
        for page in PAGES
        for block in [*blocks(page, "python"), *blocks(page, "yaml")]
        for path, _, code in [block.removeprefix("# ").partition("\n")]
        if path.startswith(("gpg_vl/", "docs/examples/"))
    ]
    assert {path.name for path, _ in quoted} >= {"qwen2_vl.py", "internvl.py", "near.py", "discs.yaml"}
    for path, code in quoted:
        assert f"\n{code}" in f"\n{path.read_text()}", f"{path.name} has other code by now"


def announced() -> dict[str, list[str]]:
    """The families of each file in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, list[str]] = {}
    for name, place in sorted(project["entry-points"][families.group].items()):
        found.setdefault(place.partition(":")[0].rpartition(".")[2] + ".py", []).append(name)
    return found


def test_adapters_have_the_lines_that_are_claimed():
    (command,) = re.findall(r"`grep -vcE '(.*)' (gpg_vl/\S+)`", FAMILIES.read_text())
    left_out, files = re.compile(command[0]), {path.name: path for path in ROOT.glob(command[1])}
    claimed = {named(file)[0]: (named(types), int(lines)) for file, types, lines in table(FAMILIES, "file")}
    counted = {
        name: (announced().get(name, []), sum(not left_out.match(line) for line in lines))
        for name, lines in ((name, path.read_text().splitlines()) for name, path in files.items())
        if name not in ("__init__.py", "family.py")
    }
    assert claimed == counted


def public(kind: type, *bases: type) -> dict[str, Any]:
    """Attributes and methods that a class or one of its `bases` has of its own."""
    found: dict[str, Any] = {}
    for one in (*bases, kind):
        own = {*vars(one), *vars(one).get("__annotations__", {})}
        found |= {name: getattr(one, name, None) for name in own if not name.startswith("_")}
    return found


def test_every_question_to_an_adapter_is_in_the_table():
    asked = public(Family, PromptFormat)
    told = {named(row[0])[0]: row[2] for row in table(FAMILIES, "of `Family`")}
    assert told.keys() == asked.keys()
    for name, value in asked.items():
        if value is None or (isinstance(value, bool | float | str | tuple) and "\\" not in str(value)):
            assert told[name].startswith("`" + repr(value).replace("'", '"') + "`"), name
    rows = table(FAMILIES, "of `ImageReader`")
    assert {name for row in rows for name in named(row[0])} == public(ImageReader).keys()


def test_the_example_of_a_familys_own_package_is_one():
    (project,), (module,) = (
        blocks(FAMILIES, "toml"),
        [block for block in blocks(FAMILIES, "python") if block.startswith("# acme_families.py")],
    )
    ((name, place),) = tomllib.loads(project)["project"]["entry-points"][families.group].items()
    made: dict[str, Any] = {}
    exec(module, made)
    assert place == f"acme_families:{name}"
    assert isinstance(made[name], Family) and made[name].takes_images


def test_settings_that_a_resumed_run_may_change_are_listed():
    text = (ROOT / "docs" / "multi_node.md").read_text()
    listed = text.partition("A resumed run keeps its settings.")[2].partition("\n\n")[0]
    others, _, of_run = listed.partition("and of `run`:")
    of_run = of_run.partition(";")[0]
    names = {name.removesuffix(".*") for name in named(others)} | {f"run.{name}" for name in named(of_run)}
    assert names == set(_MAY_CHANGE) - {"out"}


def test_the_readme_says_of_every_family_what_was_tested():
    rows = table(ROOT / "README.md", "`model_type`")
    said = {name: row for row in rows for name in named(row[0])}
    assert said.keys() == {name for names in announced().values() for name in names}
    for name, row in said.items():
        family = families.get(name)
        boxes = {"grid": "0 to 1000", "resized": "pixels as seen", "image": "pixels as stored"}
        assert row[3] == (boxes[family.box_space] if family.takes_images else ""), name
        assert row[4] == ("forked states" if family.recurrent else "one row"), name
        assert float(row[5]) == family.tolerance, name

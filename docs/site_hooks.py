"""What the site does beside mkdocs: pages for files that are linked to, GitHub's anchors, formulas as MathML.

Pages are written for GitHub, where `../gpg_vl/config.py` is a link to the file. The site has no such file, so
each one that is linked to becomes a page of it, below `source/`.
"""

import html
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
_CODE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1`*$|(`+)(?!`).*?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\(|(?:src|srcset|href)=\")(?!\w+:|#)([^)\s\"#]+)")
_LANGUAGES = {
    ".ipynb": "json",
    ".py": "python",
    ".yaml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".jsonl": "json",
}
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_config(config: MkDocsConfig) -> None:
    """Headings get the anchors that GitHub gives them."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add a page for every file and folder that a page links to and that is none of the site's own."""
    waiting = [Path(file.abs_src_path or "") for file in files.documentation_pages()]
    while waiting:
        origin = waiting.pop()
        for target in _targets(origin.read_text(encoding="utf-8"), origin):
            place = _place(target, files)
            if place.startswith("source/") and files.get_file_from_path(place) is None:
                files.append(_generated(config, place, _source_page(target, files)))
                waiting += [target] if target.suffix == ".md" else []


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links lead to pages of the site."""
    origin = page.file.abs_src_path
    return _relinked(markdown, Path(origin), page.file.src_uri, files) if origin else markdown


def on_page_content(html_text: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas become MathML, which needs no script; code that formulas stand beside is unfolded."""
    unfolded = html_text.replace(
        '<details class="mkdocstrings-source">', '<details class="mkdocstrings-source" open>'
    )
    return _FORMULA.sub(_mathml, unfolded if page.file.src_uri == "algorithm.md" else html_text)


def _mathml(match: re.Match[str]) -> str:
    if match[1] == "span":
        return convert(html.unescape(match[2]), display="inline")
    formula = convert(html.unescape(match[2]), display="block")
    return f'<div style="overflow-x: auto">{formula}</div>'  # it scrolls by itself on a phone


def _generated(config: MkDocsConfig, place: str, content: str) -> File:
    return File.generated(config, place, content=content, inclusion=InclusionLevel.NOT_IN_NAV)


def _outside_code(text: str, change: Callable[[str], str]) -> Iterator[str]:
    """The text in parts, changed but for its code."""
    end = 0
    for code in _CODE.finditer(text):
        yield change(text[end : code.start()])
        yield code[0]
        end = code.end()
    yield change(text[end:])


def _targets(text: str, origin: Path) -> list[Path]:
    """The files and folders that a page links to."""
    linked = [_target(origin, link) for _, link in _LINK.findall(_CODE.sub("", text))]
    return [target for target in linked if target is not None]


def _target(origin: Path, link: str) -> Path | None:
    """What a link of a page leads to; None for what is not there, which mkdocs then warns of."""
    target = (origin.parent / link).resolve()
    return target if target.exists() and target.is_relative_to(ROOT) else None


def _place(target: Path, files: Files) -> str:
    """Where the site has a file: as its own, or as a page below `source/`."""
    docs = ROOT / "docs"
    own = target.relative_to(docs).as_posix() if target.is_relative_to(docs) else None
    if own and (file := files.get_file_from_path(own)) and file.inclusion.is_included():
        return own
    path = target.relative_to(ROOT).as_posix()
    return f"source/{path}" if target.suffix == ".md" else f"source/{path}.md"


def _relinked(text: str, origin: Path, place: str, files: Files) -> str:
    """The text of `origin` with its links as the page `place` has to write them."""
    folder = os.path.dirname(place)

    def relink(match: re.Match[str]) -> str:
        target = _target(origin, match[2])
        return (
            match[0] if target is None else match[1] + os.path.relpath(_place(target, files), folder or ".")
        )

    return "".join(_outside_code(text, lambda part: _LINK.sub(relink, part)))


def _source_page(target: Path, files: Files) -> str:
    """A file as a page; a folder as a list of what is in it."""
    if target.suffix == ".md":
        place = f"source/{target.relative_to(ROOT).as_posix()}"
        return _relinked(target.read_text(encoding="utf-8"), target, place, files)
    name = target.relative_to(ROOT).as_posix()
    head = f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n"
    if target.is_dir():
        listed = sorted(
            path.name for path in target.iterdir() if not path.name.startswith((".", "__pycache__"))
        )
        return head + "".join(f"- `{entry}`\n" for entry in listed)
    code = target.read_text(encoding="utf-8").rstrip("\n")
    return f"{head}``````{_LANGUAGES.get(target.suffix, 'text')}\n{code}\n``````\n"

"""Math questions with an answer that can be checked: MATH, GSM8K, AIME, AMC, Minerva, OlympiadBench, …"""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, DataError, RowError
from gpg_vl.prompting.prompts import boxed, unboxed
from gpg_vl.registry import Draft, converter
from gpg_vl.types import Sample

from ._sources import dataset_rows, json_lines

LAYOUT = (
    "a .parquet, .jsonl or .json file, or a folder of them, with the columns problem or question, and "
    "answer, final_answer or solution"
)
_QUESTIONS = ("problem", "question")
_ANSWERS = ("final_answer", "gt_answer", "ground_truth_answer", "answer", "solution")
"""Where the gold stands, the plainest first: `answer` is GSM8K's worked solution, but AIME's bare number."""
_LEVELS = ("level", "difficulty")
_SUFFIXES = (".parquet", ".jsonl", ".json")
_MARKED = re.compile(r"####([^#\n]+)\s*\Z")
"""GSM8K's last line, the answer."""
_NOT_PROSE = re.compile(r"<<[^<>\n]*=[^<>\n]*>>|</?(?:think|answer)>")
"""GSM8K's notes for a calculator, and tags."""


@converter("math", version="2")
def math_sets(
    source: str, *, split: str = "", config: str = "", name: str = "", levels: str = ""
) -> Iterator[Draft]:
    r"""Convert a set of math questions; answers come out bare, without `\boxed{}`, `####` or `$`.

    Args:
        source: hub id, such as HuggingFaceH4/MATH-500; or a folder of Parquet, a .parquet, .jsonl or .json
            file, with problem or question, and answer, final_answer or solution.
        split: which of the source's splits; empty takes the first there is of train, test, validation. A
            single file has none.
        config: which part of a hub data set of several, such as main (GSM8K) or OE_TO_maths_en_COMP
            (OlympiadBench).
        name: the task becomes math/NAME; empty takes the last part of the source.
        levels: only these, such as 3-5, "3,4,5" or Hard; from the column level, or else difficulty.

    Several right answers of one question stand in `meta["alternatives"]`, all but the first. A worked
    solution becomes `reasoning`, for supervised training. Questions with a picture and proofs are skipped.
    """
    wanted = _levels(levels)
    name = name or _name(source)
    prefix = "-".join(part for part in (name, config, split) if part)
    for position, (number, row) in enumerate(_rows(source, split, config)):
        if not position:
            _check_columns(row, source, bool(levels))
        if not levels or _level(row) in wanted:
            yield functools.partial(_sample, row, f"{prefix}-{number}", f"math/{name}")


def _rows(source: str, split: str, config: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if source.endswith(".jsonl") and Path(source).is_file():
        # Line by line: an answer may be a number in one line and a text in the next, as no table allows.
        yield from json_lines(Path(source))
    else:
        splits = (split,) if split else ("train", "test", "validation")
        yield from enumerate(dataset_rows(source, LAYOUT, splits=splits, config=config), start=1)


def _name(source: str) -> str:
    path = Path(source)
    return path.stem if path.suffix in _SUFFIXES else path.name


def _check_columns(row: Mapping[str, Any], source: str, by_level: bool) -> None:
    for columns in (_QUESTIONS, _ANSWERS):
        if not row.keys() & set(columns):
            raise DataError(
                f"{source!r} has none of the columns {', '.join(columns)}; it has: {', '.join(row)}. "
                f"The converter takes {LAYOUT}"
            )
    if by_level and not row.keys() & set(_LEVELS):
        raise ConfigurationError(
            f"--levels needs a column level or difficulty, and {source!r} has only: {', '.join(row)}"
        )


def _levels(text: str) -> frozenset[str]:
    """The levels that `3-5`, `3,4,5` or `Hard` names, in small letters. Raises ConfigurationError."""
    levels: set[str] = set()
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"\s*(?:(\d+)\s*-\s*(\d+)|(\w+))\s*", part)
        if match and match[3]:
            named = {match[3].casefold()}
        else:
            named = {str(level) for level in range(int(match[1]), int(match[2]) + 1)} if match else set()
        if not named:
            raise ConfigurationError(f"--levels must be such as 3-5, 3,4,5 or Hard, got {text!r}")
        levels |= named
    return frozenset(levels)


def _level(row: Mapping[str, Any]) -> str:
    """The row's level as `_levels` writes it: "3" for `Level 3`, 3 and 3.0."""
    value = next((row[column] for column in _LEVELS if row.get(column) is not None), "")
    return str(_plain(value)).casefold().removeprefix("level").strip()


def _plain(value: Any) -> Any:
    """AMC's answers are floats, though all are whole."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _sample(row: Mapping[str, Any], id: str, task: str) -> Sample:
    if any(row[column] for column in row if re.fullmatch(r"images?(_\d+)?", column)):
        raise RowError("needs an image", f"{id}: the question is about a picture")
    answer, *others = _golds(row, id)
    return Sample(
        id=id,
        task=task,
        question=_question(row, id),
        answer=answer,
        answer_type="math",
        meta=_rest(row) | ({"alternatives": others} if others else {}),
        reasoning=_reasoning(row, answer),
    )


def _rest(row: Mapping[str, Any]) -> dict[str, Any]:
    """What else the row says."""
    used = {*_QUESTIONS, *_ANSWERS}
    plain = {column: value for column, value in row.items() if isinstance(value, str | int | float)}
    return {column: value for column, value in plain.items() if column not in used and value != ""}


def _question(row: Mapping[str, Any], id: str) -> str:
    """The question, after what it refers to: OlympiadBench's `context`."""
    texts = [row[column] for column in _QUESTIONS if isinstance(row.get(column), str)]
    text = next((text for text in texts if text.strip()), "")
    if not text:
        raise RowError("no question", f"{id}: the question is empty")
    return "\n".join(part.strip() for part in (row.get("context"), text) if part)


def _golds(row: Mapping[str, Any], id: str) -> list[str]:
    """The right answers: one, or several ways to write it. Raises RowError if none is to be found."""
    column = next((column for column in _ANSWERS if row.get(column) not in (None, "", [])), "")
    if not column:
        raise RowError("no answer", f"{id}: no answer, as for a proof")
    values = row[column] if isinstance(row[column], list) else [row[column]]
    golds = list(dict.fromkeys(_gold(str(_plain(value)), column == "solution", id) for value in values))
    # OlympiadBench's `final_answer` lists all that must be named, Minerva's `answer` ways to write one.
    return [", ".join(golds)] if row.get("is_multiple_answer") else golds


def _gold(text: str, worked: bool, id: str) -> str:
    r"""The bare answer in `text`: what is boxed last, what follows GSM8K's `####`, or the text itself.

    A `worked` solution must have one of the first two, or there is no telling.
    """
    boxes, marked = boxed(text), _MARKED.search(text)
    if boxes:
        while inner := boxed(text):  # MATH has boxes in boxes
            text = inner[-1]
    elif marked:
        text = marked[1].replace(",", "")  # 1,234
    elif worked:
        raise RowError("no final answer", rf"{id}: neither \boxed{{}} nor #### in the solution")
    text = text.strip()
    if re.fullmatch(r"\$[^$]+\$", text):
        text = text[1:-1].strip()
    return str(int(text)) if re.fullmatch(r"0[0-9]+", text) else text  # AIME: 033


def _reasoning(row: Mapping[str, Any], answer: str) -> str:
    """The worked solution without boxes, GSM8K's notes and last line; empty if there is only the answer."""
    solution = row.get("solution")
    text = solution[0] if isinstance(solution, list) and solution else solution  # OlympiadBench has several
    if not text and _worked(row.get("answer")):
        text = row["answer"]
    steps = _NOT_PROSE.sub("", unboxed(_MARKED.sub("", text))).strip() if isinstance(text, str) else ""
    return "" if steps.strip("$. ") == answer else steps


def _worked(answer: Any) -> bool:
    """Whether it says which of its parts is the answer itself, as GSM8K's does."""
    return isinstance(answer, str) and bool(boxed(answer) or _MARKED.search(answer))

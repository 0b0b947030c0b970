"""Files of answers: JSON lines, an evaluation, a run's rollouts. What a file is, its content says."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.data.row_format import RowOptions, row_sample
from gpg_vl.errors import DataError, unknown
from gpg_vl.prompting.prompts import BoxSpace, Prompt
from gpg_vl.prompting.transcripts import read_transcript
from gpg_vl.runs.files import answers_of
from gpg_vl.types import AnswerType, Completion, FinishReason, Sample
from gpg_vl.yaml_file import read_yaml

_PARQUET = b"PAR1"
_ROLLOUT = ("group", "answer_index", "prompt_id", "text", "finish_reason", "token_count")
_COMPLETION: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "completion": ("a text", lambda value: isinstance(value, str)),
    "token_count": (
        "a whole number",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    ),
    "finish_reason": ("a text", lambda value: isinstance(value, str)),
    "think_opened": ("true or false", lambda value: isinstance(value, bool)),
}
_Object = dict[str, Any]


@dataclass(frozen=True)
class AnsweredRows:
    """A question with the answers to it that were sampled together: one for a line of its own."""

    raws: Sequence[Mapping[str, Any]]
    """As the file has them, one for each answer."""
    sample: Sample
    completions: Sequence[Completion]


def read_answers(path: Path, space: BoxSpace, folders: Sequence[str] = ()) -> Iterator[AnsweredRows]:
    """Questions with their answers, groups as groups.

    A line is `{"sample": {…}, "completion": "text"}`, or flat, in the one row format (`row_format.py`); image
    paths start from the file's folder. Rollouts and evaluations find their samples by id in `folders`, else
    in the data sets that they name. Boxes in answers stand in `space`, but for an evaluation's, which are
    converted. Raises DataError naming the line or the row for what cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(len(_PARQUET))
    if head == _PARQUET:
        return _rollouts(path, space, folders)
    evaluation = _evaluation(path)
    if evaluation is not None:
        return _evaluated(path, evaluation, space, folders)
    return (_line(raw, where, path, space, number) for number, raw, where in _lines(path))


def count_answers(path: Path) -> int:
    """About how many answers there are, for a progress bar: rows of Parquet, an evaluation's, or lines."""
    with path.open("rb") as file:
        if file.read(len(_PARQUET)) != _PARQUET:
            if evaluation := _evaluation(path):
                return sum(len(answers_of(item)) for item in evaluation["items"])
            file.seek(0)
            return sum(1 for _ in file)
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, Any, str]]:
    """Each line's number, value and place; empty ones are passed over."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield number, json.loads(line), where
                except (json.JSONDecodeError, UnicodeDecodeError) as error:
                    raise DataError(f"{where}: not JSON: {error}") from error


def _evaluation(path: Path) -> _Object | None:
    """The evaluation that a file holds, if its first line is not a row by itself."""
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    if not first.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(first)
    except (json.JSONDecodeError, UnicodeDecodeError):
        try:
            value = json.loads(path.read_bytes())
        except (json.JSONDecodeError, UnicodeDecodeError):
            return None  # lines, one of which is broken
    return value if isinstance(value.get("items"), list) and "totals" in value else None


def _line(raw: Any, where: str, path: Path, space: BoxSpace, number: int) -> AnsweredRows:
    if not isinstance(raw, dict):
        raise DataError(f'{where}: not a row, which is {{"sample": {{…}}, "completion": "text"}}, or flat')
    _check_completion(raw, where)
    row = raw.get("sample", {key: value for key, value in raw.items() if key not in (*_COMPLETION, "scores")})
    if not isinstance(row, dict):
        raise DataError(f"{where}: 'sample' must be a table, got {row!r}")
    sample = _sample(row, str(number), where, path.parent)
    return AnsweredRows([raw], sample, [_completion(raw, sample, where, space)])


def _sample(
    row: _Object, id: str, where: str, folder: Path | None, cure: str = "it is a key beside 'answer'"
) -> Sample:
    options = RowOptions(folder, needed=("answer",), cure=cure)
    sample = row_sample(row, id, where, options)
    if sample.answer_type not in get_args(AnswerType):
        raise DataError(f"{where}: {unknown('answer_type', sample.answer_type, get_args(AnswerType))}")
    return sample


def _check_completion(raw: Mapping[str, Any], where: str) -> None:
    if "completion" not in raw:
        raise DataError(f"{where}: 'completion' is missing; there are: {', '.join(raw) or 'none'}")
    for key, (words, fits) in _COMPLETION.items():
        if raw.get(key) is not None and not fits(raw[key]):
            raise DataError(f"{where}: {key!r} must be {words}, got {raw[key]!r}")
    reason = raw.get("finish_reason") or "eos"
    if reason not in get_args(FinishReason):
        raise DataError(f"{where}: {unknown('finish_reason', reason, get_args(FinishReason))}")


def _completion(raw: Mapping[str, Any], sample: Sample, where: str, space: BoxSpace) -> Completion:
    try:
        return read_transcript(
            raw["completion"],
            sample,
            space=space,
            think_opened=raw.get("think_opened") or False,
            token_count=raw.get("token_count"),
            finish_reason=raw.get("finish_reason") or "eos",
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


class _Samples:
    """Samples by id, of prepared data sets that are there."""

    def __init__(self, folders: Iterable[str]) -> None:
        self.folders = [folder for folder in folders if Path(folder).is_dir()]
        self._rows = PreparedDataset.open(self.folders) if self.folders else None
        ids = self._rows.column("id") if self._rows is not None else []
        self._places = {id: place for place, id in enumerate(ids)}

    def find(self, id: str) -> Sample | None:
        place = self._places.get(id)
        return None if place is None or self._rows is None else self._rows[place]


def _evaluated(
    path: Path, evaluation: _Object, space: BoxSpace, folders: Sequence[str]
) -> Iterator[AnsweredRows]:
    """Each question's answers together; what the evaluation itself says of it, where its data is gone."""
    samples = _Samples(folders or evaluation.get("data") or ())
    opened = _opens_think(evaluation.get("prompt"))
    for number, item in enumerate(evaluation["items"], 1):
        where = f"{path}, item {number}"
        sample = samples.find(item["id"]) or _recorded(item, where)
        answers = answers_of(item)
        # A chat template may open it too, which only the text of the prompt shows.
        opens = opened or str(item.get("prompt", "")).rstrip().endswith("<think>")
        raws = [_answer(item["id"], one, "output", opens) for one in answers]
        completions = [
            _evaluated_completion(raw, one, sample, where, space)
            for raw, one in zip(raws, answers, strict=True)
        ]
        yield AnsweredRows(raws, sample, completions)


def _evaluated_completion(
    raw: _Object, answer: Mapping[str, Any], sample: Sample, where: str, space: BoxSpace
) -> Completion:
    """With the boxes that the evaluation has read: those of the text may be in the model's own space."""
    if "boxes" not in answer:
        return _completion(raw, sample, where, space)
    without = _completion(raw, replace(sample, answer_type="label"), where, space)
    return replace(without, boxes=tuple(map(tuple, answer["boxes"])))


def _recorded(item: _Object, where: str) -> Sample:
    """The sample as far as an evaluation holds it: without images."""
    keys = {"gold": "answer", **{name: name for name in ("id", "task", "question", "choices", "answer_type")}}
    row = {ours: item[theirs] for theirs, ours in keys.items() if theirs in item}
    return _sample(row, item["id"], where, None, "--data names the prepared data that it was asked from")


def _rollouts(path: Path, space: BoxSpace, folders: Sequence[str]) -> Iterator[AnsweredRows]:
    """The groups of a step."""
    config = path.resolve().parents[1] / "config.yaml"
    settings = read_yaml(config) if config.is_file() else {}
    samples = _Samples(folders or settings.get("data", {}).get("train") or ())
    opened = _opens_think(settings.get("prompt"))
    for number, rows in groupby(_rollout_rows(path), key=lambda row: row["group"]):
        group = sorted(rows, key=lambda row: row["answer_index"])
        where, id = f"{path}, group {number}", group[0]["prompt_id"]
        sample = samples.find(id)
        if sample is None:
            looked = ", ".join(samples.folders) or "no folder: the run's data.train is not here"
            raise DataError(f"{where}: no sample {id!r} in {looked}; --data names the prepared data it is of")
        raws = [_answer(id, row, "text", opened) for row in group]
        yield AnsweredRows(raws, sample, [_completion(raw, sample, where, space) for raw in raws])


def _rollout_rows(path: Path) -> list[_Object]:
    try:
        table = pq.read_table(path, partitioning=None)
        if missing := [name for name in _ROLLOUT if name not in table.column_names]:
            raise DataError(
                f"{path} holds no rollouts: it has no column {missing[0]!r}; there are: "
                f"{', '.join(table.column_names)}"
            )
        rows: list[_Object] = table.select(_ROLLOUT).sort_by("group").to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return rows


def _answer(id: str, answer: Mapping[str, Any], text: str, opened: bool) -> _Object:
    """An answer as a line of its own would have it."""
    kept = {name: answer[name] for name in ("finish_reason", "token_count") if name in answer}
    return {"id": id, "completion": answer[text], **kept, "think_opened": opened}


def _opens_think(prompt: Mapping[str, Any] | None) -> bool:
    return bool(prompt) and Prompt.from_dict(dict(prompt or {})).opens_think

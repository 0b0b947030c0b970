"""One call of a reward function (of an answer, or of a group for a batch function) and what went wrong."""

import inspect
import linecache
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError, RewardError, UserError
from gpg_vl.tables import short_text
from gpg_vl.types import Completion, Sample

Score = float | None
_HERE = str(Path(__file__).parent)
_LIBRARIES = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)  # a user's line is elsewhere
_SHOWN = 100
"""Characters of an answer, a line of code or an exception's message in an error."""


@dataclass(frozen=True)
class Call:
    """What a reward function is to score."""

    name: str
    """Of the reward, as the configuration calls it and the registry resolves it."""
    options: Mapping[str, Any]
    sample: Sample
    completions: tuple[Completion, ...]
    """One, or the G of a group for a batch function."""
    batch: bool = False
    conversational: bool = False
    """Whether a batch function gets chat messages instead of texts."""


@dataclass(frozen=True)
class Outcome:
    """What became of a call: its scores, or the reason why there are none."""

    scores: tuple[Score, ...] = ()
    """One for each completion."""
    timed_out: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the function counted; of calls in worker processes alone."""
    error: RewardError | ConfigurationError | None = None
    """To be raised where the scores are waited for."""


def score(function: Callable[..., Any], call: Call) -> tuple[Score, ...]:
    """Call a reward function here and now.

    Raises RewardError for whatever it raises, and for a list of another length; ConfigurationError for what
    the function itself calls a mistake of the user.
    """
    with named(function, call):
        positional, keywords = _arguments(function, call)
        return _scores(function(*positional, **keywords), function, call)


async def score_async(function: Callable[..., Any], call: Call) -> tuple[Score, ...]:
    """Await an `async` reward function; see `score`."""
    with named(function, call):
        positional, keywords = _arguments(function, call)
        return _scores(await function(*positional, **keywords), function, call)


def _arguments(function: Callable[..., Any], call: Call) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if call.batch:
        return (), _columns(function, call)
    return (call.completions[0], call.sample), call.options


def _columns(function: Callable[..., Any], call: Call) -> dict[str, Any]:
    """What a function written for TRL gets: `f(completions, **columns) -> list`, one row per completion.

    Of the columns those that it names, all of them if it takes `**columns`.
    """
    sample, count = call.sample, len(call.completions)
    texts: list[Any] = [completion.text for completion in call.completions]
    prompt: Any = sample.question
    if call.conversational:
        texts = [[{"role": "assistant", "content": text}] for text in texts]
        prompt = [{"role": "user", "content": prompt}]
    columns = {
        **{key: [value] * count for key, value in sample.meta.items()},
        "prompts": [prompt] * count,
        "completion_ids": [list(completion.token_ids) for completion in call.completions],
        "answer": [sample.answer] * count,
        "solution": [sample.answer] * count,
        "choices": [list(sample.choices)] * count,
        "images": [list(sample.images)] * count,
        "task": [sample.task] * count,
        **call.options,
    }
    parameters = inspect.signature(function).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        columns = {name: column for name, column in columns.items() if name in parameters}
    return {**columns, "completions": texts}


def _scores(raw: Any, function: Callable[..., Any], call: Call) -> tuple[Score, ...]:
    scores = tuple(None if one is None else float(one) for one in (raw if call.batch else (raw,)))
    if len(scores) != len(call.completions):
        file, number, name = _definition(function)
        raise RewardError(
            f"reward {call.name!r} gave {len(scores)} scores for the {len(call.completions)} answers of "
            f"sample {call.sample.id!r}\n{_from_here(file)}:{number}, in {name}"
        )
    return scores


@contextmanager
def named(function: Callable[..., Any], call: Call) -> Iterator[None]:
    """Give what the function raises the reward's name, the sample's id and the user's line."""
    try:
        yield
    except RewardError:
        raise
    except UserError as mistake:
        told = f"reward {call.name!r}: "
        if str(mistake).startswith(told):  # by the call within the call
            raise
        raise ConfigurationError(f"{told}{mistake}") from mistake
    except (Exception, SystemExit) as error:
        lines = [f"reward {call.name!r} failed on sample {call.sample.id!r}"]
        if not call.batch:
            lines.append(f"  answer: {short_text(call.completions[0].text, _SHOWN)}")
        trace = "".join(traceback.format_exception(error))
        raise RewardError("\n".join([*lines, *_place(error, function)]), trace) from error


def _place(error: BaseException, function: Callable[..., Any]) -> list[str]:
    """The user's line of code, then `file.py:12, in name: KeyError: 'x'`.

    It is the innermost one that is neither ours nor a library's; where a call does not even begin, as with a
    wrong signature, the one that defines the function.
    """
    file, number, name = _definition(function)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_HERE)]
    own = [f for f in frames if not f.filename.startswith((*_LIBRARIES, "<"))]
    for frame in (own or [f for f in frames if f.filename == file] or frames)[-1:]:
        file, number, name = frame.filename, frame.lineno or 0, frame.name
    code = linecache.getline(file, number).strip()
    what = f"{type(error).__name__}: {error}".partition("\n")[0]
    shown = what if len(what) <= 2 * _SHOWN else f"{what[: 2 * _SHOWN]}…"
    lines = [f"  {code[:_SHOWN]}"] if code else []
    return [*lines, f"{_from_here(file)}:{number}, in {name}: {shown}"]


def _definition(function: Callable[..., Any]) -> tuple[str, int, str]:
    """File, line and name of a function, a partial of one, or an object that is called so."""
    bare = inspect.unwrap(getattr(function, "func", function))
    code = getattr(bare, "__code__", None) or getattr(type(bare).__call__, "__code__", None)
    return (code.co_filename, code.co_firstlineno, code.co_name) if code else ("", 0, repr(bare))


def _from_here(file: str) -> str:
    relative = os.path.relpath(file)
    return file if relative.startswith(os.pardir) else relative

"""The judge: a mark that another model gives, which sees the images too."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import reward
from gpg_vl.scoring.counters import count
from gpg_vl.types import Completion, Sample

from ._chat import NoReplyError, Server, api_key, ask, chat_url
from ._data_urls import data_urls
from ._reply_cache import default_path, reply_cache
from ._rubric import question_to_judge, read_mark, read_rubric

_POSITIVE = ("scale", "max_pixels", "max_tokens", "timeout")
_OWN = ("messages", "model", "max_tokens", "temperature", "stream", "n")
"""Keys of a request that `extra_body` has no say in."""
_SHOWN = 100
"""Characters of a reply in a warning."""
_UNSCORED = ", so an answer gets no score"
_told: set[str] = set()


def _check(options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for options that no answer could be judged with."""
    try:
        chat_url(options["url"])
        api_key(options["key_env"])
        read_rubric(options["rubric"])
        for name in _POSITIVE:
            if options[name] is not None and options[name] <= 0:
                raise ConfigurationError(f"{name} must be above 0, got {options[name]}")
        if options["retries"] < 0:
            raise ConfigurationError(f"retries must be 0 or more, got {options['retries']}")
        if taken := sorted(set(options["extra_body"] or ()) & set(_OWN)):
            raise ConfigurationError(f"extra_body must not have {', '.join(taken)}: that is the judge's own")
    except ConfigurationError as error:
        raise ConfigurationError(f"reward 'judge': {error}") from error


@reward("judge", deadline=120.0, timeout_score=None, bounds=(0, 1), check=_check)
async def judge(
    completion: Completion,
    sample: Sample,
    *,
    url: str,
    model: str,
    rubric: str | None = None,
    images: bool = True,
    max_pixels: int = 1_000_000,
    scale: int = 10,
    max_tokens: int | None = 512,
    temperature: float | None = 0.0,
    timeout: float = 60.0,
    retries: int = 6,
    cache: bool | str = True,
    key_env: str | None = None,
    extra_body: dict[str, Any] | None = None,
) -> float | None:
    """The mark of a model behind OpenAI's chat completions, divided by `scale`, in [0, 1].

    `url` is the server's, such as http://localhost:8000/v1, and `model` a name that it knows. `rubric` is
    what it is asked: a text with {response} in it and perhaps {question}, {choices}, {answer} (the gold one)
    and {scale}, or the path of a .txt or .md file; None is our own. `images` go along as PNG or JPEG of at
    most `max_pixels` pixels. `max_tokens` (of a reply) and `temperature` are left out of the request where
    they are null; `extra_body` adds to it. One request may take `timeout` seconds; a server that is late,
    busy or down is tried `retries` more times. `cache` keeps replies on disk, in ~/.cache/gpg_vl or in the
    file that it names. `key_env` names the environment variable that holds the key; a key itself is no
    option.

    An empty response scores 0 and is not sent. A reply without "Mark: N", no reply in spite of the retries,
    and an exceeded deadline are no score: the judge is to blame, not the answer. Counts judge/requests,
    judge/cached, judge/prompt_tokens, judge/completion_tokens and judge/failed. Raises ConfigurationError
    for options that cannot be, a variable that is not set, and a server that refuses the key or the model
    from the start.
    """
    if not completion.text.strip():
        return 0.0
    text = question_to_judge(read_rubric(rubric), completion, sample, scale)
    shown = await data_urls(sample, max_pixels) if images and sample.images else []
    set_ones = {"max_tokens": max_tokens, "temperature": temperature}
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _content(text, shown)}],
        **{name: value for name, value in set_ones.items() if value is not None},
        **(extra_body or {}),
    }
    server = Server(chat_url(url), key_env, timeout, retries)
    reply = await _reply(server, json.dumps(body, sort_keys=True).encode(), cache)
    mark = None if reply is None else read_mark(reply, scale)
    if mark is None:
        count("judge/failed")
        if reply is not None:
            _tell(f"{model} gives no mark{_UNSCORED}", repr(reply[-_SHOWN:]))
    return mark


def _content(text: str, images: list[str]) -> str | list[dict[str, Any]]:
    """A message's content: plain text where there are no images, for servers that know nothing else."""
    if not images:
        return text
    return [
        *({"type": "image_url", "image_url": {"url": image}} for image in images),
        {"type": "text", "text": text},
    ]


async def _reply(server: Server, body: bytes, cache: bool | str) -> str | None:
    """The server's reply, or the one that it gave before; None if there is none."""
    if cache is False:
        return await _asked(server, body)
    kept = reply_cache(default_path() if cache is True else Path(cache).expanduser())
    request = hashlib.sha256(server.url.encode() + b"\n" + body).hexdigest()
    asked = kept.asking(request)
    async with asked.turn:
        reply = asked.reply if asked.done else await kept.get(request)
        if reply is not None:
            count("judge/cached")
        elif not asked.done:
            reply = await _asked(server, body)
            asked.done, asked.reply = True, reply
            if reply:
                await kept.put(request, reply)
        return reply


async def _asked(server: Server, body: bytes) -> str | None:
    try:
        return await ask(server, body, lambda error: _tell(f"{server.url} is asked again", str(error)))
    except NoReplyError as error:
        _tell(f"{server.url} gave no reply{_UNSCORED}", str(error))
        return None


def _tell(what: str, reason: str) -> None:
    """Say on stderr, once for each kind of failure, what is wrong with the judge."""
    if what not in _told:
        _told.add(what)
        print(f"warning: reward 'judge': {what}: {reason}", file=sys.stderr, flush=True)

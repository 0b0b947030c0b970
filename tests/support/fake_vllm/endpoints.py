"""The endpoints of `vllm serve` that the project asks, with its fields and refusals, and what goes wrong."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file

from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.vllm.worker.gpg_vl_wire import Link, packed_size, unpack
from tests.support.fake_vllm.model import Served, image_of

LONGEST = 4096
"""Tokens of prompt and answer."""
Reply = tuple[int, Any]
"""A status and its JSON; None is an empty reply."""


@dataclass
class Mischief:
    """How it misbehaves."""

    drop_every: int = 0
    """Each such answer is worked out, and then its connection is lost."""
    twice: bool = False
    """Answers are sent two times."""
    die_after: int = 0
    """Ends once it has worked out so many answers."""
    die_at: str = ""
    """Ends when this is asked for."""
    slow: float = 0.0
    """Seconds that an answer takes."""
    version: str = ""
    """Weights that answers claim to be of."""
    another_prompt: bool = False
    """Answers claim to be of a prompt with one token more."""
    lose: str = ""
    """Weights whose names contain it stay the old ones."""


@dataclass
class Report:
    """What has been asked of it."""

    asked: int = 0
    answered: int = 0
    aborted: int = 0
    dropped: int = 0
    most: int = 0
    """Answers in the making at a time."""
    updates: int = 0
    files: int = 0
    trainer: str = ""
    """Where weights come from, as the trainer says."""
    seeds: list[int] = field(default_factory=list)
    """Of the questions that were answered."""


class _Aborted(Exception):
    """Somebody does not want the answers any more."""


class Endpoints:
    """What a server says to requests, which come in threads of their own."""

    def __init__(self, served: Served, mischief: Mischief, die: Callable[[], None]) -> None:
        self.served, self.mischief, self.report, self.die = served, mischief, Report(), die
        self.version = "default"
        self.missing: set[str] = set()
        self._link: Link | None = None
        self._updating = self._paused = False
        self._stale: set[str] = set()
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._running: dict[str, threading.Event] = {}

    def leave(self) -> None:
        """End what is going on, as the end of a process does."""
        self._abort(list(self._running))
        if self._link is not None:
            self._link.close()

    def reply(self, method: str, path: str, body: dict[str, Any]) -> Reply:
        """What it says to a request."""
        route = urlsplit(path).path
        if route == self.mischief.die_at:
            self.die()
        known, work = _ROUTES.get(route, ("", None))
        if work is None:
            return 404, {"detail": "Not Found"}
        if method not in known:
            return 405, {"detail": "Method Not Allowed"}
        try:
            return work(self, body)
        except ValueError as error:
            return _failed(400, "BadRequestError", error)
        except Exception as error:  # whatever happens in vLLM's processes becomes this
            return _failed(500, "InternalServerError", error)

    # What it is

    def health(self, _: Any) -> Reply:
        return 200, None

    def models(self, _: Any) -> Reply:
        model = {"id": self.served.folder, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
        more = {"root": self.served.folder, "parent": None, "max_model_len": LONGEST, "permission": []}
        return 200, {"object": "list", "data": [model | more]}

    def weight_info(self, _: Any) -> Reply:
        return 200, {"weight_version": self.version}

    def is_paused(self, _: Any) -> Reply:
        return 200, {"is_paused": self._paused}

    def world_size(self, _: Any) -> Reply:
        return 200, {"world_size": 1}

    def fake(self, body: Mapping[str, Any]) -> Reply:
        for name, value in body.items():
            setattr(self.mischief, name, value)
        return 200, asdict(self.report)

    # Weights

    def init(self, body: Mapping[str, Any]) -> Reply:
        info = body["init_info"]
        if self._link is not None:
            self._link.close()
            self._link = None
        if info:
            self.report.trainer = info["host"]
            self._link = Link(
                info["host"],
                info["port"],
                1,
                info["size"],
                device=torch.device("cpu"),
                seconds=info["seconds"],
            )
        return 200, {"message": "Weight transfer initialized"}

    def start_update(self, _: Any) -> Reply:
        if self._updating:
            raise RuntimeError("start_weight_update called while a weight update is already active")
        self._updating, self.missing = True, set(self.served.weights)
        return 200, {"message": "Weight update started"}

    def update(self, body: Mapping[str, Any]) -> Reply:
        if not self._updating:
            raise RuntimeError("start_weight_update must be called before update_weights")
        info, lose = body["update_info"], self.mischief.lose
        self._updating = False  # unless this goes well
        if "file" in info:
            named = list(load_file(info["file"]).items())
            self.report.files += 1
        else:
            assert self._link is not None, "no trainer has joined"
            data = torch.empty(packed_size(info["dtypes"], info["shapes"]), dtype=torch.uint8)
            self._link.broadcast(data)
            named = list(unpack(data, info["names"], info["dtypes"], info["shapes"]))
        with self._turn:
            self.missing -= self.served.load(one for one in named if not lose or lose not in one[0])
        self._updating = True
        return 200, {"message": "Weights updated"}

    def finish_update(self, body: Mapping[str, Any]) -> Reply:
        if not self._updating:
            raise RuntimeError("finish_weight_update called without a matching start_weight_update")
        self._updating = False
        self._stale = {"prefix", "encoder"}
        if "weight_version" in body:
            self.version = body["weight_version"]
            self.report.updates += 1
        return 200, {"message": "Weight update finished"}

    def collective_rpc(self, body: Mapping[str, Any]) -> Reply:
        if body.get("method") != "gpg_vl_missing":
            raise RuntimeError("Call to collective_rpc method failed")
        return 200, {"results": [sorted(self.missing)]}

    def reset_prefix(self, _: Any) -> Reply:
        self._stale -= {"prefix"}
        return 200, {"success": True}

    def reset_encoder(self, _: Any) -> Reply:
        self._stale -= {"encoder"}
        return 200, None

    # Answers

    def pause(self, _: Any) -> Reply:
        self._paused = True
        self._abort(list(self._running))
        return 200, {"status": "paused"}

    def resume(self, _: Any) -> Reply:
        self._paused = False
        return 200, {"status": "resumed"}

    def abort(self, body: Mapping[str, Any]) -> Reply:
        named = body.get("request_ids") or list(self._running)
        self._abort(named)
        return 200, {"status": "aborted", "aborted": len(named)}

    def _abort(self, requests: Sequence[str]) -> None:
        for name in requests:
            if name in self._running:
                self._running[name].set()

    def generate(self, body: Mapping[str, Any]) -> Reply:
        if not body.get("token_ids"):
            return _failed(400, "Bad Request", "1 validation error: body.token_ids")
        images = [image_of(part["url"]) for part in body.get("content_parts") or ()]
        prompt, params = self.served.read(body["token_ids"], images), body["sampling_params"]
        if prompt.length > LONGEST:
            raise ValueError(f"The decoder prompt (length {prompt.length}) is longer than {LONGEST}")
        name, unwanted = (
            f"generate-tokens-{body.get('request_id') or secrets.token_hex(8)}",
            threading.Event(),
        )
        with self._count:
            self._running[name] = unwanted
            self.report.asked += 1
            self.report.most = max(self.report.most, len(self._running))
        try:
            choices = self._choices(prompt, params, unwanted)
        finally:
            with self._count:
                del self._running[name]
        read = prompt.token_ids.tolist() + [0] * self.mischief.another_prompt
        return 200, {
            "request_id": name,
            "model": self.served.folder,
            "created": int(time.time()),
            "usage": _usage(prompt.length, choices),
            "prompt_logprobs": None,
            "prompt_token_id_logprobs": None,
            "prompt_token_ids": read if body.get("return_token_ids") else None,
            "mm_placeholders": _places(prompt) if body.get("return_token_ids") else None,
            "metrics": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "output_mode": "tokens",
            "choices": choices,
        }

    def _choices(self, prompt: Any, params: Mapping[str, Any], unwanted: threading.Event) -> list[Any]:
        grown: list[Sequence[int]] = [[] for _ in range(params["n"])]

        def watch(tokens: Sequence[Sequence[int]]) -> None:
            grown[:] = tokens
            if unwanted.is_set():
                raise _Aborted

        try:
            if unwanted.wait(self.mischief.slow):
                raise _Aborted
            while self._paused or not self._turn.acquire(timeout=0.01):
                watch(grown)
            try:
                assert not self._stale, f"caches hold what other weights made: {self._stale}"
                answers = self.served.answer(prompt, params, watch)
                version = self.version
            finally:
                self._turn.release()
        except _Aborted:
            self.report.aborted += 1
            return [self._choice(g, ids, [0.0] * len(ids), "abort", None) for g, ids in enumerate(grown)]
        with self._count:
            self.report.answered += 1
            self.report.seeds.append(params["seed"])
        return [
            self._choice(g, one.token_ids, one.logprobs, *_end(one, params), version)
            for g, one in enumerate(answers)
        ]

    def _choice(
        self,
        index: int,
        ids: Sequence[int],
        logprobs: Sequence[float],
        reason: str,
        stopped: Any,
        version: str = "",
    ) -> dict[str, Any]:
        said = self.mischief.version or version or self.version
        sampled = [
            {"token_id": token, "logprob": value, "rank": 1}  # a greedy one's; nobody asks
            for token, value in zip(ids, logprobs, strict=True)
        ]
        content = [{**token, "top_logprobs": [token]} for token in sampled]
        return {
            "index": index,
            "finish_reason": reason,
            "stop_reason": stopped,
            "token_ids": list(ids),
            "routed_experts": None,
            "sampling_mask": None,
            "weight_versions": [{"version": said, "start": 0, "end": len(ids)}] if ids else None,
            "logprobs": {"content": content},
        }


_ROUTES: dict[str, tuple[tuple[str, ...], Callable[[Endpoints, Any], Reply]]] = {
    "/health": (("GET",), Endpoints.health),
    "/v1/models": (("GET",), Endpoints.models),
    "/weight_info": (("GET",), Endpoints.weight_info),
    "/get_world_size": (("GET",), Endpoints.world_size),
    "/is_paused": (("GET",), Endpoints.is_paused),
    "/fake": (("GET", "POST"), Endpoints.fake),
    "/init_weight_transfer_engine": (("POST",), Endpoints.init),
    "/start_weight_update": (("POST",), Endpoints.start_update),
    "/update_weights": (("POST",), Endpoints.update),
    "/finish_weight_update": (("POST",), Endpoints.finish_update),
    "/collective_rpc": (("POST",), Endpoints.collective_rpc),
    "/reset_prefix_cache": (("POST",), Endpoints.reset_prefix),
    "/reset_encoder_cache": (("POST",), Endpoints.reset_encoder),
    "/pause": (("POST",), Endpoints.pause),
    "/resume": (("POST",), Endpoints.resume),
    "/abort_requests": (("POST",), Endpoints.abort),
    "/inference/v1/generate": (("POST",), Endpoints.generate),
}


def _failed(code: int, kind: str, error: Any) -> Reply:
    return code, {"error": {"message": str(error), "type": kind, "param": None, "code": code}}


def _places(prompt: EncodedPrompt) -> dict[str, Any] | None:
    """Where images stand in a prompt."""
    found, offset = [], 0
    for image, run in groupby(prompt.image_mask.tolist()):
        length = len(list(run))
        found += [{"offset": offset, "length": length}] if image else []
        offset += length
    return {"image": found} if found else None


def _usage(prompt: int, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    grown = sum(len(choice["token_ids"]) for choice in choices)
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + grown,
        "completion_tokens": grown,
        **details,
    }


def _end(answer: Any, params: Mapping[str, Any]) -> tuple[str, Any]:
    """vLLM's finish reason, and what stopped an answer."""
    if answer.finish_reason == "length":
        return "length", None
    if answer.finish_reason == "eos":
        return "stop", answer.token_ids[-1]
    return "stop", next(text for text in params["stop"] if text in answer.text)

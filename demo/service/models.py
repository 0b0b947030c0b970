"""The two models: loaded when they are first asked, once each."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch

from gpg_vl.errors import ModelError
from gpg_vl.evaluation.benchmarks import Benchmark
from gpg_vl.evaluation.evaluate_model import choose_prompt, own_encoder, own_stop
from gpg_vl.model.frontend import Frontend, read_frontend
from gpg_vl.model.loading import load_policy
from gpg_vl.prompting.card import read_card
from gpg_vl.rollout.answering import Answerer
from gpg_vl.rollout.engine import Engine
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.vllm.asking import Asking
from gpg_vl.rollout.vllm.server import ServerEngine
from gpg_vl.rollout_config import ServerConfig

Kind = Literal["base", "trained"]
"""Which of the two."""
_MOST_ANSWERS = 64
"""Answers decoded at the same time; more go one part after the other."""


@dataclass(frozen=True)
class Model:
    """A loaded model with what its checkpoint says of how it is to be asked."""

    frontend: Frontend
    card: Mapping[str, Any]
    engine: Engine

    def answerer(self, benchmark: Benchmark) -> Answerer:
        """Asks with the checkpoint's own prompt, else with the benchmark's."""
        prompt = choose_prompt(self.card, benchmark, None)
        return Answerer(own_encoder(self.frontend, self.card, prompt), self.engine)

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return own_stop(self.card)


class Models:
    """Models by path; threads may ask at the same time."""

    def __init__(self, servers: Mapping[str, str] = MappingProxyType({})) -> None:
        """`servers`: addresses of vLLM by the models that they have, which are not loaded here."""
        self._servers = servers
        self._loaded: dict[str, Model] = {}
        self._lock = threading.Lock()

    def loaded(self, path: str) -> bool:
        """Whether `get` would return at once."""
        return _key(path) in self._loaded

    def get(self, path: str) -> Model:
        """The model of a folder or hub id, loaded if it is not yet.

        Raises ModelError if it cannot be; the next call tries again.
        """
        key = _key(path)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = _served(path, url) if (url := self._servers.get(path)) else _load(path)
            return self._loaded[key]


def _key(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def _load(path: str) -> Model:
    card = read_card(path) or {}
    try:
        policy = load_policy(path, device="cuda" if torch.cuda.is_available() else "cpu")
    except RuntimeError as error:  # too little memory, on either device
        raise ModelError(f"{path!r} cannot be loaded: {error}") from error
    policy.eval()  # for good: answers are made by several threads, and the engine puts back what it found
    return Model(Frontend.of(policy), card, OwnEngine(policy, max_concurrent=_MOST_ANSWERS))


def _served(path: str, url: str) -> Model:
    """Raises EngineError where no server has the model."""
    frontend = read_frontend(path)
    server = ServerConfig(url, patience=0.0)
    engine = ServerEngine(server, Asking(frontend, 0), max_concurrent=_MOST_ANSWERS, model=path)
    return Model(frontend, read_card(path) or {}, engine)

"""The two models: loaded when they are first asked, once each."""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from gpg_vl.evaluation.model import Model, load

Kind = Literal["base", "trained"]
"""Which of the two."""


class Models:
    """Models by path; threads may ask at the same time."""

    def __init__(self, servers: Mapping[str, str] = MappingProxyType({})) -> None:
        """`servers`: addresses of vLLM by the models that they have, which are not loaded here."""
        self._servers = servers
        self._loaded: dict[str, Model] = {}
        self._keys: dict[str, str] = {}
        self._lock = threading.Lock()

    def loaded(self, path: str) -> bool:
        """Whether `get` would return at once."""
        return self._key(path) in self._loaded

    def get(self, path: str) -> Model:
        """The model of a folder or hub id, loaded if it is not yet.

        Raises ModelError if it cannot be; the next call tries again.
        """
        key = self._key(path)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = load(path, server=self._servers.get(path))
            return self._loaded[key]

    def _key(self, path: str) -> str:
        """What two spellings of a folder share; worked out once: the folder may go while the model stays."""
        if path not in self._keys:
            self._keys[path] = str(Path(path).resolve()) if Path(path).is_dir() else path
        return self._keys[path]

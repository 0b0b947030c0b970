"""What `gpg-vl demo` is told: models, data, where it listens, and its limits."""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from gpg_vl.checks import tidy
from gpg_vl.errors import ConfigurationError

_MEBIBYTE = 2**20
_NAME = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*|\[?[0-9a-fA-F:]+:[0-9a-fA-F:.]*\]?", re.ASCII)
_ORIGIN = re.compile(r"https?://(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)
_PATH = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)


@dataclass(frozen=True)
class DemoSettings:
    """Show base against trained in a browser: answers, evaluations, rollouts and curves."""

    base: str = ""
    """Model before training: folder or hub id."""
    trained: str | None = None
    """Model after it; None shows the base model alone."""
    base_server: str | None = None
    """Address of vLLM with the base model (`gpg-vl serve`), which is then not loaded here."""
    trained_server: str | None = None
    """The same for the trained model."""
    run: str | None = None
    """Run folder: its evaluations, rollouts and curves."""
    data: tuple[str, ...] = ()
    """Folders written by `gpg-vl prepare`, to pick questions from."""
    reward: tuple[str, ...] = ()
    """Further rewards to score answers by, such as my_rewards.py:brief; their code is run."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in, and then wants a password."""
    port: int = 7860
    """Port to listen on; 0 takes a free one from 7860 on."""
    host_name: tuple[str, ...] = ()
    """Names under which browsers reach it (`demo.example.org`, `*.example.org`); localhost always serves."""
    allow_origin: tuple[str, ...] = ()
    """Other web sites that may use it, as `https://example.org`."""
    trusted_proxy: tuple[str, ...] = ("127.0.0.0/8", "::1")
    """Addresses or networks of proxies whose X-Forwarded headers are believed."""
    root_path: str = ""
    """Path under which a proxy shows it, as `/demo`; the proxy takes it off."""
    auth_env: str | None = None
    """Environment variable that holds `user:password`; None and no --auth_file asks for none."""
    auth_file: str | None = None
    """File whose first line is `user:password`."""
    concurrency: int = 2
    """Generations at the same time, one model each; the others wait in one queue."""
    max_waiting: int = 64
    """Questions open at the same time, half of them from one address at most; beyond, they are refused."""
    max_questions: int = 2
    """Questions that one page or API client may have open at the same time."""
    max_new_tokens: int = 1024
    """Longest answer in tokens that can be asked for."""
    max_samples: int = 16
    """Most answers to one question."""
    scoring_seconds: float = 10.0
    """Longest scoring of one model's answers to a question, in seconds; the answers stay, unscored."""
    upload_mib: float = 20.0
    """Largest file that can be uploaded, in MiB."""
    upload_megapixels: float = 40.0
    """Most pixels of an uploaded image, in millions."""

    def __post_init__(self) -> None:
        tidy(self, "--", paths=("base", "trained", "run", "data", "auth_file"))
        if not self.base:
            raise ConfigurationError("--base is missing: the folder or hub id of a model")
        if self.auth_env is not None and self.auth_file is not None:
            raise ConfigurationError("give --auth_env or --auth_file, not both")
        for name in ("concurrency", "max_waiting", "max_questions", "max_new_tokens", "max_samples"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} must be at least 1, got {getattr(self, name)}")
        for name in ("scoring_seconds", "upload_mib", "upload_megapixels"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"--{name} must be above 0, got {getattr(self, name)}")
        self._check_network()
        if not 0 <= self.port < 2**16:
            raise ConfigurationError(f"--port is 0 to 65535, got {self.port}")

    def _check_network(self) -> None:
        for name in self.host_name:
            if not _NAME.fullmatch(name):
                raise ConfigurationError(f"--host_name is a name without scheme and port, got {name!r}")
        for url in self.allow_origin:
            if not _ORIGIN.fullmatch(url):
                raise ConfigurationError(f"--allow_origin is like https://example.org, got {url!r}")
        for address in self.trusted_proxy:
            try:
                ip_network(address, strict=False)
            except ValueError as error:
                raise ConfigurationError(
                    f"--trusted_proxy is an IP address or network (10.0.0.0/8), got {address!r}"
                ) from error
        if self.root_path and not _PATH.fullmatch(self.root_path):
            raise ConfigurationError(f"--root_path is like /demo, got {self.root_path!r}")

    @property
    def servers(self) -> dict[str, str]:
        """Addresses of vLLM by the models that they have."""
        pairs = ((self.base, self.base_server), (self.trained, self.trained_server))
        return {model: url for model, url in pairs if model and url}

    @property
    def roots(self) -> tuple[str, ...]:
        """Paths as the operator gave them: messages may show these."""
        return tuple(filter(None, (self.base, self.trained, self.run, *self.data)))

    @property
    def upload_bytes(self) -> int:
        """Largest file that can be uploaded, in bytes."""
        return int(self.upload_mib * _MEBIBYTE)

    @property
    def upload_pixels(self) -> int:
        """Most pixels of an uploaded image."""
        return int(self.upload_megapixels * 1e6)

    def auth(self) -> tuple[str, str] | None:
        """User and password, read from where the settings say; None asks for none.

        Raises ConfigurationError if there is nothing to read, or no `user:password` in it. The message
        never repeats what was read.
        """
        if self.auth_env is not None:
            place, text = f"environment variable {self.auth_env}", os.environ.get(self.auth_env, "")
        elif self.auth_file is not None:
            place, text = f"file {self.auth_file!r}", _first_line(Path(self.auth_file))
        else:
            return None
        user, colon, password = text.strip().partition(":")
        if not (user and colon and password):
            raise ConfigurationError(f"{place} holds no `user:password`")
        return user, password


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--auth_file {str(path)!r} cannot be read: {error}") from error

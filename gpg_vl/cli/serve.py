"""`gpg-vl serve`: vLLM in processes of its own, which end with this one."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import IO, TYPE_CHECKING, Any

from gpg_vl.cli.launch import MARK, kill_launch
from gpg_vl.errors import ConfigurationError, EngineError
from gpg_vl.model.adapter_files import check_model, refuse_adapters
from gpg_vl.options import base_parser
from gpg_vl.rollout.vllm.serving import (
    Installed,
    Kind,
    ServeSettings,
    as_shell,
    log_file,
    vllm_command,
    vllm_environment,
)

if TYPE_CHECKING:
    from gpg_vl.rollout.vllm.client import VllmClient

_POLL = 0.5  # seconds
_GRACE = 30.0
"""Seconds that vLLM has to end by itself."""


def serve(arguments: list[str]) -> None:
    """Start vLLM for `--rollout.engine server`, and stay until it or this command ends."""
    own, more = _parted(arguments)
    parser = base_parser("gpg-vl serve", serve.__doc__ or "")
    parser.add_class_arguments(ServeSettings, None)
    parser.add_argument("--print", action="store_true", help="print vLLM's command, for any machine, and end")
    given = parser.parse_args(own)
    settings = ServeSettings(**{field.name: given[field.name] for field in fields(ServeSettings)})
    check_model(settings.model)
    refuse_adapters(settings.model, "vLLM serves whole models")
    if os.path.isdir(settings.model):
        settings = replace(settings, model=os.path.abspath(settings.model))  # clients are elsewhere
    installed = Installed.elsewhere(settings) if given.print else Installed.of(settings.python)
    if settings.device != "auto":
        installed = replace(installed, gpu=settings.device == "cuda")
    command = vllm_command(settings, installed, _kind(settings.model), more)
    environment = vllm_environment(installed.gpu)
    if given.print:
        print(as_shell(command, environment))
        return
    sys.exit(_run(settings, command, environment))


def _parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our words, and vLLM's behind `--`."""
    words = list(arguments)
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _kind(model: str) -> Kind:
    from gpg_vl.model.families import family_of
    from gpg_vl.model.loading import read_config
    from gpg_vl.rollout.vllm.asking import kind_of

    return kind_of(family_of(model, read_config(model)))


def _run(settings: ServeSettings, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """vLLM's exit code, 0 where it was asked to end. Nothing of it outlives this call, or this process."""
    from gpg_vl.rollout.vllm.client import VllmClient

    client, log, mark = VllmClient(settings.url, 1), log_file(settings.port), uuid.uuid4().hex
    if client.healthy():
        raise ConfigurationError(f"something answers at {settings.url} already: choose another --port")
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"starting vLLM; its output: {log}", flush=True)
    with (
        contextlib.closing(client),
        log.open("w") as output,
        _signals_noted() as asked,
        _start(command, environment, output, mark) as agent,
    ):
        try:
            _wait_until_up(agent, client, asked)
            if not asked and agent.poll() is None:
                print(f"ready: --rollout.engine server --rollout.server.url {settings.url}", flush=True)
            while agent.poll() is None and not asked:
                time.sleep(_POLL)
            if asked:
                _end(agent)
                return 0
        finally:
            kill_launch(mark, agent.pid)
    raise EngineError(f"vLLM ended with exit code {agent.returncode}{client.last_lines()}")


def _start(
    command: Sequence[str], environment: Mapping[str, str], output: IO[str], mark: str
) -> subprocess.Popen[bytes]:
    """In a session of its own: a Ctrl-C reaches this process alone, which passes it on once."""
    variables = [f"{name}={value}" for name, value in environment.items()]  # vLLM's, and not the agent's
    return subprocess.Popen(
        [sys.executable, "-m", "gpg_vl.cli.serve_agent", "env", *variables, *command],
        stdin=subprocess.PIPE,  # closes with this process, however it ends: the agent's sign to end too
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=os.environ | {MARK: mark},
    )


def _wait_until_up(agent: subprocess.Popen[bytes], client: "VllmClient", asked: list[int]) -> None:
    while agent.poll() is None and not asked and not client.healthy():
        time.sleep(_POLL)


def _end(agent: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(agent.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        agent.wait(_GRACE)


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """While open, SIGINT and SIGTERM are written down; a second one raises KeyboardInterrupt."""
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

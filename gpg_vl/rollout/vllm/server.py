"""Rollouts on vLLM servers, which get the trainer's weights before each step.

Every process asks for its own questions; the first one alone sends weights, and waits for servers that are
gone. All of them take part in what concerns all: layers are gathered together, and a server that came back
gets its weights again before anybody goes on.
"""

import contextlib
import os
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gpg_vl.errors import EngineError
from gpg_vl.rollout.engine import Answer, Done, Engine, Request, Synced, Watch
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.vllm.asking import Asking, data_url, unexpanded
from gpg_vl.rollout.vllm.client import ServerGoneError, VllmClient
from gpg_vl.rollout.vllm.sender import Receiver, bucketed
from gpg_vl.rollout.vllm.servers import STARTED_WITH, Server, Update, begin, finish, give
from gpg_vl.rollout.vllm.weights import Weights
from gpg_vl.rollout_config import ServerConfig
from gpg_vl.runtime.parallel import World

_TICK = 0.2  # seconds between two looks at what the caller wants
_FRUITLESS = 3
"""Times that servers may be gone without one answer in between."""


class ServerEngine(Engine):
    """Servers that share the questions."""

    own = False

    def __init__(
        self,
        config: ServerConfig,
        asking: Asking,
        *,
        max_concurrent: int,
        world: World | None = None,
        weights: Weights | None = None,
        device: torch.device | None = None,
        model: str = "",
        max_len: int = 0,
    ) -> None:
        """`max_len`: tokens of the longest prompt and answer, 0 if nobody knows. Without `weights`, servers
        are only asked: theirs must be `model`'s, and stay so.

        Waits up to rollout.server.patience for the first server; raises EngineError without one.
        """
        self._config, self._asking, self._weights = config, asking, weights
        self._model, self._max_len = model, max_len
        self.seed, self.max_concurrent, self.version = asking.seed, max_concurrent, -1
        self._world = world or World()
        device = device or torch.device("cpu")
        nccl = config.sync == "nccl" or (config.sync == "auto" and device.type == "cuda")
        self._device = device if nccl else torch.device("cpu")
        folder = Path(config.folder) if config.sync == "file" else None
        clients = [VllmClient(url, config.connections) for url in config.urls]
        self._servers = [Server(one, Receiver(one, self._device, folder)) for one in clients]
        self._run: str = self._world.gather([uuid.uuid4().hex[:8]])[0]
        self._name = STARTED_WITH
        self._await_server()

    def _check_servers(self) -> None:
        """Raise EngineError for a server whose sequences are shorter than the run's, and without weights to
        send for one that has others than the model's."""
        for client in (server.client for server in self._alive):
            (served, length), own = client.model(), os.path.realpath(self._model)
            if length < self._max_len:
                raise EngineError(
                    f"{client.url} ends sequences at {length} tokens, and prompt and answer have up to "
                    f"{self._max_len} here: gpg-vl serve --max_model_len {self._max_len}"
                )
            if self._weights is not None:
                continue
            if os.path.realpath(served) != own:
                raise EngineError(f"{client.url} serves {served!r}, and {self._model!r} is asked for")
            if (version := client.weight_version()) != STARTED_WITH or client.paused():
                raise EngineError(f"{client.url} has a trainer's weights ({version}): start it anew")

    @property
    def _alive(self) -> list[Server]:
        return [server for server in self._servers if server.alive]

    # Answers

    def generate(
        self,
        requests: Sequence[Request],
        group_size: int,
        sampling: Sampling,
        *,
        watch: Watch = lambda _: None,
        done: Done = lambda _, __: None,
    ) -> list[list[Answer]]:
        """As `Engine.generate`; `watch` sees a group's answers once they are complete.

        A question whose server is gone goes to another one; once all are gone, everybody waits for one, which
        gets the weights again. Raises EngineError as the protocol says.
        """
        answers: dict[int, list[Answer]] = {}
        seen: list[list[int]] = [[] for _ in range(len(requests) * group_size)]

        def got(place: int, group: list[Answer]) -> None:
            if place not in answers:  # an answer that comes twice counts once
                answers[place] = group
                for number, answer in enumerate(group):
                    seen[place * group_size + number].extend(answer.token_ids)
                done(place, group)

        fruitless = 0
        while True:
            before = len(answers)
            missing = {place: request for place, request in enumerate(requests) if place not in answers}
            failure = self._ask_all(missing, group_size, sampling, got, lambda: watch(seen))
            if not self._world.any(failure is not None):
                return [answers[place] for place in range(len(requests))]
            fruitless = 0 if self._world.any(len(answers) > before) else fruitless + 1
            if fruitless == _FRUITLESS:
                raise EngineError(f"{failure or 'another process lost all servers'}{self._last_lines()}")
            self._recover(failure)

    def _ask_all(
        self,
        requests: Mapping[int, Request],
        group_size: int,
        sampling: Sampling,
        got: Callable[[int, list[Answer]], None],
        tick: Callable[[], None],
    ) -> ServerGoneError | None:
        """Ask until all have answered, or all servers are gone: then that is returned."""
        # The longest first, as everywhere.
        queue = deque(sorted(requests, key=lambda place: -requests[place].prompt.length))
        running: dict[Future[list[Answer]], tuple[int, Server]] = {}
        open_questions: set[str] = set()
        failure: ServerGoneError | None = None
        connections = self._config.connections
        with ThreadPoolExecutor(connections * len(self._servers), "vllm") as pool:
            try:
                while queue or running:
                    while queue and (server := self._freest(running)):
                        place = queue.popleft()
                        question = requests[place], group_size, sampling, open_questions
                        running[pool.submit(self._ask, server, *question)] = place, server
                    if not running:
                        return failure or ServerGoneError("no server is there")
                    finished, _ = wait(running, _TICK, FIRST_COMPLETED)
                    for one in finished:
                        place, server = running.pop(one)
                        try:
                            got(place, one.result())
                        except ServerGoneError as error:
                            failure = error
                            server.lose()
                            queue.append(place)
                    tick()
            except BaseException:
                self._abort(open_questions)  # else the pool waits for answers that nobody wants
                raise
        return None

    def _freest(self, running: Mapping[Any, tuple[int, Server]]) -> Server | None:
        """A server with a connection to spare, of those the one that is asked least."""
        load = {id(server): 0 for server in self._alive}
        for _, server in running.values():
            if id(server) in load:
                load[id(server)] += 1
        free = [server for server in self._alive if load[id(server)] < self._config.connections]
        return min(free, key=lambda server: load[id(server)], default=None)

    def _ask(
        self,
        server: Server,
        request: Request,
        group_size: int,
        sampling: Sampling,
        open_questions: set[str],
    ) -> list[Answer]:
        question = unexpanded(request)
        body: dict[str, Any] = {
            "token_ids": question.token_ids,
            "sampling_params": {**self._asking.sampling(request, group_size, sampling), "output_kind": 2},
            "return_token_ids": True,
        }
        if question.images:
            urls = [data_url(image) for image in question.images]
            body["content_parts"] = [{"type": "image_url", "url": url} for url in urls]
        reply = server.client.generate(body, self._name, open_questions)
        choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        self._check_versions(server, choices)
        self._asking.check_prompt(request, reply["prompt_token_ids"])
        found = [
            (
                choice["token_ids"],
                [token["logprob"] for token in choice["logprobs"]["content"]],
                choice["finish_reason"],
            )
            for choice in choices
        ]
        return self._asking.answers(found, group_size, sampling, max(0, self.version))

    def _check_versions(self, server: Server, choices: Sequence[Mapping[str, Any]]) -> None:
        """Raise unless all tokens are of the expected weights: ServerGoneError for a server that came back
        without them, EngineError for anybody else's weights."""
        spans = [span for choice in choices for span in choice["weight_versions"] or ()]
        others = {span["version"] for span in spans} - {self._name}
        if any(name == STARTED_WITH or name.startswith(self._run) for name in others):
            raise ServerGoneError(f"{server.client.url} came back without the weights of now")
        if others or not spans:
            raise EngineError(
                f"{server.client.url} answered with weights {', '.join(sorted(others)) or 'without a name'} "
                f"in the place of {self._name}: does another run use it?"
            )

    def _abort(self, open_questions: set[str]) -> None:
        """Only those of one `generate`: other threads and processes may use the servers, too."""
        names = tuple(open_questions)
        open_questions.clear()
        for server in self._alive:
            with contextlib.suppress(EngineError):
                server.client.abort(names)

    # Weights

    def sync(self, version: int) -> Synced:
        """As `Engine.sync`: to all servers that can be reached, those included that were gone before."""
        self.version = version
        if self._weights is None:
            return Synced()
        self._name = f"{self._run}-{version}"
        if not self._world.any(bool(self._stale)):
            return Synced()
        return Synced(self._bring())

    def _recover(self, failure: ServerGoneError | None) -> None:
        """Wait for a server, and give it the weights that it should have."""
        if failure is not None:
            print(f"gpg-vl: {failure}{self._last_lines()}; waiting for a server", file=sys.stderr)
        start = time.monotonic()
        self._await_server()
        if self._weights is not None:
            self._bring()
        if failure is not None:
            waited = time.monotonic() - start
            print(f"gpg-vl: going on after {waited:.0f} s, with the weights of now", file=sys.stderr)

    def _bring(self) -> int:
        """`_send`; where all servers are gone, it waits for one and tries again, a few times."""
        for _ in range(_FRUITLESS - 1):
            try:
                return self._send()
            except ServerGoneError as failure:
                if self._world.main:
                    print(f"gpg-vl: {failure}; waiting for a server", file=sys.stderr)
                self._await_server()
        return self._send()

    def _send(self) -> int:
        """Bring the weights to the servers; returns the bytes sent. Raises ServerGoneError where none took
        them, EngineError for any other mistake.

        Whatever happens to servers, this process goes through all layers: others gather them with it.
        """
        assert self._weights is not None, "only a trainer has weights to send"
        update, sent = Update(self._stale), 0
        if self._world.main:
            update.each(partial(begin, run=self._run))
            for bucket in bucketed(self._weights(), self._device):
                sent += len(bucket.data) * len(update.taking)
                update.each(partial(give, bucket=bucket))
            update.each(partial(finish, name=self._name))
            update.end()
            self._world.together(lambda: self._check_update(update))
        else:
            deque(self._weights(), maxlen=0)
            self._world.together(lambda: None)
        self._agree()
        return sent

    def _check_update(self, update: Update) -> None:
        if update.failure is not None:
            raise update.failure
        if not self._alive:
            why = f" ({update.gone})" if update.gone else ""
            raise ServerGoneError(f"no server took the weights{why}{self._last_lines()}")

    @property
    def _stale(self) -> list[Server]:
        """Those that may be there, with other weights than those of now; the first process alone knows."""
        servers = self._servers if self._world.main else ()
        return [one for one in servers if one.due and not one.has(self._name)]

    def _await_server(self) -> None:
        """Return once a server is up; the first process alone looks. Raises EngineError on all."""
        self._world.together(self._wait if self._world.main else lambda: None)
        self._agree()
        self._world.together(self._check_servers if self._world.main else lambda: None)

    def _agree(self) -> None:
        """All processes ask the servers that the first one can reach."""
        reached = self._world.gather([[server.alive for server in self._servers]])[0]
        for server, alive in zip(self._servers, reached, strict=True):
            server.alive = alive

    def _wait(self) -> None:
        end, told = time.monotonic() + self._config.patience, False
        while True:
            for server in self._servers:
                server.alive = server.client.healthy()
            if self._alive:
                return
            if time.monotonic() >= end:
                raise EngineError(
                    f"no server at {', '.join(self._config.urls)} within {self._config.patience:g} seconds "
                    f"(rollout.server.patience): start one with `gpg-vl serve`{self._last_lines()}"
                )
            if not told:
                places, seconds = ", ".join(self._config.urls), self._config.patience
                print(f"gpg-vl: waiting up to {seconds:g} s for a server at {places}", file=sys.stderr)
                told = True
            time.sleep(1.0)

    def _last_lines(self) -> str:
        return "".join(server.client.last_lines() for server in self._servers if not server.alive)

    def rest(self) -> None:
        """Servers have memory of their own."""

    def close(self) -> None:
        """Leave the servers, which go on."""
        for server in self._servers:
            server.receiver.drop()
            server.client.close()

"""A policy whose answers come from stand-ins for vLLM's server."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from gpg_vl.model.frontend import Frontend
from gpg_vl.model.policy import Policy
from gpg_vl.model.published import published
from gpg_vl.rollout.answering import Answered, Answerer
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.vllm.asking import Asking
from gpg_vl.rollout.vllm.server import ServerEngine
from gpg_vl.rollout_config import ServerConfig
from gpg_vl.runtime.parallel import World
from tests.support.fake_vllm.server import FakeVllm, serving
from tests.support.inputs import encoder_of

SEED = 5


@contextlib.contextmanager
def asking(policy: Policy, *urls: str, world: World | None = None, **options: Any) -> Iterator[Answerer]:
    """The policy's questions to servers; nothing is sent to them yet."""
    config = ServerConfig(url=list(urls), **({"connections": 4, "patience": 60.0} | options))
    how = Asking(Frontend.of(policy), SEED)
    weights = partial(published, policy)
    engine = ServerEngine(config, how, max_concurrent=64, world=world, weights=weights)
    with contextlib.closing(engine):
        yield Answerer(encoder_of(policy), engine)


def own(policy: Policy) -> Answerer:
    """The policy's questions to itself."""
    return Answerer(encoder_of(policy), OwnEngine(policy, max_concurrent=64, seed=SEED))


def tokens(answered: list[Answered]) -> list[list[tuple[int, ...]]]:
    return [[answer.token_ids for answer in one.answers] for one in answered]


@torch.no_grad()
def enliven(policy: Policy) -> None:
    """Larger matrices, by which even the likeliest answers are no rows of one token."""
    for weight in policy.text_model.layers.parameters():
        if weight.dim() > 1:
            weight.mul_(2)


@torch.no_grad()
def learn(policy: Policy) -> None:
    """Change every weight, so that who has the old ones is found out."""
    for number, weight in enumerate(policy.parameters()):
        shift = torch.rand(weight.shape, generator=torch.Generator().manual_seed(number)) - 0.5
        weight.mul_(1 + 0.1 * shift)


@contextlib.contextmanager
def coming_back(first: FakeVllm, **mischief: Any) -> Iterator[Callable[[], FakeVllm]]:
    """A server whose end is followed by a new one at its address; what this gives waits for that one."""
    found: list[FakeVllm] = []
    with contextlib.ExitStack() as stack:

        def watch() -> None:
            first.ended.wait()
            host, port = first.server_address[:2]
            again = serving(first.endpoints.served, host=str(host), port=int(port), **mischief)
            found.append(stack.enter_context(again))

        thread = threading.Thread(target=watch)
        thread.start()

        def second() -> FakeVllm:
            thread.join(60)
            return found[0]

        yield second
        first.end()
        thread.join()

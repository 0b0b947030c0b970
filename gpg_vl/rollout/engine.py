"""What an engine is: it answers questions in groups, with weights of a version that it says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpg_vl.prompting.encode import EncodedPrompt, Unexpanded
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import FinishReason

Watch = Callable[[Sequence[Sequence[int]]], None]
"""Sees the token ids of all answers so far, G for each request in order; none yet where the prompt waits.
What it raises ends the generation."""
Done = Callable[[int, "list[Answer]"], None]
"""Gets a request's index and its answers as soon as the last of them is complete."""


@dataclass(frozen=True)
class Answer:
    """One sampled answer."""

    token_ids: tuple[int, ...]
    """Sampled tokens, up to and including the end-of-text token or the one that completed a stop text."""
    logprobs: tuple[float, ...]
    """Log-probability (nats) of each under the sampler's distribution."""
    text: str
    """Decoded without special tokens, cut after the first stop text."""
    finish_reason: FinishReason
    version: int = 0
    """Of the weights that sampled it: the run's steps that they had seen."""


@dataclass(frozen=True)
class Request:
    """A question to answer: its prompt, and what its answers' random streams come from."""

    prompt: EncodedPrompt
    id: str
    step: int = 0
    unexpanded: Callable[[], Unexpanded] | None = None
    """The prompt as a processor elsewhere takes it; engines that have one ask for it."""


@dataclass(frozen=True)
class Synced:
    """What bringing weights to an engine cost."""

    bytes: int = 0
    """Sent to all servers, or copied within a process; 0 where nothing had to be."""


class Engine(Protocol):
    """Samples groups of answers.

    Where processes train together, all of them call `generate` and `sync` equally often, with their own
    requests, perhaps none.
    """

    own: bool
    """Whether the trainer's own weights and arithmetic sample, so that there is nothing to correct."""
    seed: int
    """Of every answer's random stream, with its request's step and id."""
    max_concurrent: int
    """Answers that grow at the same time in one process, at most."""
    version: int
    """Of the weights that it has: the run's steps that they had seen."""

    def generate(
        self,
        requests: Sequence[Request],
        group_size: int,
        sampling: Sampling,
        *,
        watch: Watch = lambda _: None,
        done: Done = lambda _, __: None,
    ) -> list[list[Answer]]:
        """`group_size` answers for each request, in the order of the requests.

        `watch` follows the answers while they grow, for streaming and for stopping; `done` gets each group
        once it is complete. Both are called in the caller's thread. Raises EngineError where the engine is
        gone for good, reads a prompt otherwise, or answers with weights of another version.
        """
        ...

    def sync(self, version: int) -> Synced:
        """Bring the trainer's weights of `version` to where answers are sampled; nothing to do if they are
        there already."""
        ...

    def rest(self) -> None:
        """Give back memory until the next `sync`, which comes before `generate`."""
        ...

    def close(self) -> None:
        """Give back what it holds; no other method is called afterwards."""
        ...

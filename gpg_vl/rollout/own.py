"""The project's own engine: every prompt is read once, and its G answers share that cache."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from gpg_vl.model.policy import Policy
from gpg_vl.rollout.decoding import DecodeOptions, Decoding, Growing
from gpg_vl.rollout.engine import Answer, Done, Engine, Request, Synced, Watch
from gpg_vl.rollout.sampling import Sampling, StopTexts
from gpg_vl.runtime.devices import on_device, runs_triton

PREFILL_TOKENS = 32_768
"""Prompt tokens, padding included, read in one pass; bounds activations and the vision tower's batch."""
_CPU = DecodeOptions(check_every=1, bucket=1)  # gains nothing by running ahead
_GPU = DecodeOptions(check_every=8, bucket=64)


def decode_options(device: torch.device, *, graphs: bool = True, fused: bool = True) -> DecodeOptions:
    """How to decode on a device; `graphs` and `fused` attention where it has them."""
    if device.type == "cpu":
        return _CPU
    return replace(_GPU, graphs=graphs and device.type == "cuda", fused=fused and runs_triton(device))


class OwnEngine(Engine):
    """Samples groups of answers from a policy itself: what it says of them is the trainer's own."""

    own = True

    def __init__(
        self, policy: Policy, *, max_concurrent: int, seed: int = 0, options: DecodeOptions | None = None
    ) -> None:
        """`options` stand in for the device's own; the answers do not depend on them, but for rounding."""
        self.policy, self.max_concurrent, self.seed = policy, max_concurrent, seed
        self.version = 0
        self.options = options or decode_options(policy.device)
        self._stop: dict[tuple[str, ...], StopTexts] = {}

    def sync(self, version: int) -> Synced:
        """The weights are the policy's own already."""
        self.version = version
        return Synced()

    def rest(self) -> None:
        """Caches are freed behind each `generate`."""

    def close(self) -> None:
        """Holds nothing beside the policy."""

    @torch.no_grad()
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

        At most `max_concurrent` answers grow at the same time (always at least one group); a group that is
        complete makes room for the next question. `watch` follows the answers while they grow, for streaming
        and for stopping; `done` gets each group once it is complete.
        """
        policy, stops = self.policy, self._stops(sampling)
        growing = [[Growing() for _ in range(group_size)] for _ in requests]
        everything = [answer.token_ids for group in growing for answer in group]
        answers: list[list[Answer]] = [[] for _ in requests]
        # The longest first: running out of memory shows at once, and later prompts need no more room.
        queue = deque(sorted(range(len(requests)), key=lambda i: -requests[i].prompt.length))
        was_training = policy.training
        policy.eval()
        last = max((request.prompt.next_position for request in requests), default=0)
        try:
            # a caller's autocast would change the arithmetic
            with on_device(policy.device), torch.autocast(policy.device.type, enabled=False):
                decoding = Decoding(
                    policy, group_size, sampling, stops, self.options, last + sampling.max_new_tokens
                )
                while queue or decoding.slots:
                    free = (self.max_concurrent - decoding.slots) // group_size
                    for part in _admissible(queue, requests, free if decoding.slots else max(1, free)):
                        asked = [requests[i] for i in part]
                        keys = [(self.seed, request.step, request.id) for request in asked]
                        prompts = [request.prompt for request in asked]
                        decoding.admit(part, prompts, keys, [growing[i] for i in part])
                    watch(everything)
                    decoding.advance()
                    for i in decoding.retire():
                        answers[i] = self._answers(growing[i], stops)
                        done(i, answers[i])
                watch(everything)
        finally:
            policy.train(was_training)
        return answers

    def _answers(self, group: Sequence[Growing], stops: StopTexts) -> list[Answer]:
        texts = self.policy.tokenizer.batch_decode([one.token_ids for one in group], skip_special_tokens=True)
        return [
            Answer(
                tuple(one.token_ids), tuple(one.logprobs), stops.cut(text), one.finish_reason, self.version
            )
            for one, text in zip(group, texts, strict=True)
            if one.finish_reason is not None
        ]

    def _stops(self, sampling: Sampling) -> StopTexts:
        if sampling.stop not in self._stop:
            policy = self.policy
            self._stop[sampling.stop] = StopTexts(policy.tokenizer, sampling.stop, policy.vocabulary)
        return self._stop[sampling.stop]


def _admissible(queue: deque[int], requests: Sequence[Request], room: int) -> Iterator[list[int]]:
    """Take up to `room` questions from the queue, in parts that fit one prefill."""
    while queue and room > 0:
        part = [queue.popleft()]
        room -= 1
        longest = requests[part[0]].prompt.length
        while queue and room > 0 and (len(part) + 1) * longest <= PREFILL_TOKENS:
            part.append(queue.popleft())
            room -= 1
        yield part

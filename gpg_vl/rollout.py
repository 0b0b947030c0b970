"""The rollout engine: every prompt is read once, and its G answers share that cache."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpg_vl.attention import AnswerCache, Prefix
from gpg_vl.encode import EncodedPrompt
from gpg_vl.logprobs import sampler_logits
from gpg_vl.packing import Row, Segment, collate
from gpg_vl.policy import Policy
from gpg_vl.sampling import Sampling, StopTexts, UniformStreams, draw
from gpg_vl.types import FinishReason

PREFILL_TOKENS = 32_768
"""Prompt tokens, padding included, read in one pass; bounds activations and the vision tower's batch."""
Watch = Callable[[Sequence[Sequence[int]]], None]
"""Sees the token ids of the answers in the making after every token: questions from the shortest prompt on,
each one's G answers behind one another. What it raises ends the generation."""
_SHRINK = 0.75
"""Finished answers leave the batch once at most this share of its slots is needed."""


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


@dataclass(frozen=True)
class Request:
    """A question to answer: its prompt, and what its answers' random streams come from."""

    prompt: EncodedPrompt
    id: str
    step: int = 0


class RolloutEngine:
    """Samples groups of answers from a policy."""

    def __init__(self, policy: Policy, *, max_concurrent: int, seed: int = 0) -> None:
        self.policy, self.max_concurrent, self.seed = policy, max_concurrent, seed
        self._stop: dict[tuple[str, ...], StopTexts] = {}

    def generate(
        self,
        requests: Sequence[Request],
        group_size: int,
        sampling: Sampling,
        *,
        watch: Watch = lambda _: None,
    ) -> list[list[Answer]]:
        """`group_size` answers for each request, in the order of the requests.

        `watch` follows them while they grow, for streaming and for stopping; of more than `max_concurrent`
        answers, those that are decoded together.
        """
        results: list[list[Answer]] = [[] for _ in requests]
        for part in self._parts(requests, group_size):
            answers = self._decode([requests[i] for i in part], group_size, sampling, watch)
            for i, group in zip(part, answers, strict=True):
                results[i] = group
        return results

    def _parts(self, requests: Sequence[Request], group_size: int) -> Iterator[list[int]]:
        """Indices that fit `max_concurrent` answers and the prefill; similar lengths together."""
        size = max(1, self.max_concurrent // group_size)
        part: list[int] = []
        for i in sorted(range(len(requests)), key=lambda i: requests[i].prompt.length):
            if part and (len(part) == size or (len(part) + 1) * requests[i].prompt.length > PREFILL_TOKENS):
                yield part
                part = []
            part.append(i)
        if part:
            yield part

    @torch.no_grad()
    def _decode(
        self, requests: Sequence[Request], group_size: int, sampling: Sampling, watch: Watch
    ) -> list[list[Answer]]:
        policy = self.policy
        was_training = policy.training
        policy.eval()
        rows = [Row((Segment(request.prompt, (), ()),)) for request in requests]
        lengths = torch.tensor([row.length for row in rows], device=policy.device)
        try:
            with policy.autocast():  # around the loop: it keeps its bf16 copies of weights until it closes
                logits, prefix = policy.prefill(collate(rows).to(policy.device), lengths)
                state = _Decoding(
                    requests, group_size, sampling, prefix, policy, self._stops(sampling), self.seed
                )
                state.accept(logits.repeat_interleave(group_size, dim=0))
                watch(state.token_ids)
                while state.live:
                    state.accept(
                        policy.decode(state.last_tokens, state.positions, state.prefix, state.cache)
                    )
                    watch(state.token_ids)
        finally:
            policy.train(was_training)
        return state.answers()

    def _stops(self, sampling: Sampling) -> StopTexts:
        if sampling.stop not in self._stop:
            policy = self.policy
            self._stop[sampling.stop] = StopTexts(policy.tokenizer, sampling.stop, policy.vocabulary)
        return self._stop[sampling.stop]


class _Decoding:
    """The answers of B questions while they grow; slots are (question, answer) pairs in a B'×G' grid."""

    def __init__(
        self,
        requests: Sequence[Request],
        group_size: int,
        sampling: Sampling,
        prefix: Prefix,
        policy: Policy,
        stops: StopTexts,
        seed: int,
    ) -> None:
        self.sampling, self.prefix, self.policy, self.stops = sampling, prefix, policy, stops
        self.group_size = group_size
        self.questions = len(requests)
        device = policy.device
        count = self.questions * group_size
        keys = [(seed, r.step, r.id, g) for r in requests for g in range(group_size)]
        greedy = sampling.temperature == 0
        self.streams = None if greedy else UniformStreams(keys, sampling.max_new_tokens)
        self.cache = AnswerCache(policy.layers, policy.compute_dtype)
        self.eos = torch.tensor(policy.eos_token_ids, device=device)
        self.may_complete = stops.may_complete.to(device)
        self.slots = torch.arange(count, device=device)  # (N',) which answer each slot grows
        self.alive = torch.ones(count, dtype=torch.bool, device=device)  # (N',)
        firsts = torch.tensor([r.prompt.next_position for r in requests], device=device)
        self.positions = firsts.repeat_interleave(group_size) - 1  # (N',) of the last token
        self.last_tokens = torch.zeros(0, dtype=torch.long, device=device)
        self.step = 0
        self.token_ids: list[list[int]] = [[] for _ in range(count)]
        self.logprobs: list[list[float]] = [[] for _ in range(count)]
        self.reasons: list[FinishReason] = ["length"] * count

    @property
    def live(self) -> bool:
        return self.step < self.sampling.max_new_tokens and bool(self.alive.any())

    def accept(self, logits: Tensor) -> None:
        """Draw one token per slot from logits (N', V), and drop the answers that it ends."""
        sampling = self.sampling
        logits = sampler_logits(logits, sampling.logit_temperature, self.policy.suppressed)
        uniforms = self.streams.at(self.slots, self.step) if self.streams else None
        tokens, logprobs = draw(logits, uniforms, sampling)
        self._record(tokens, logprobs)
        self.last_tokens = tokens
        self.positions = self.positions + 1
        self.step += 1
        self._shrink()

    def _record(self, tokens: Tensor, logprobs: Tensor) -> None:
        ended = torch.isin(tokens, self.eos)
        suspects = self.may_complete[tokens] & ~ended
        rows = zip(
            self.slots.tolist(),
            self.alive.tolist(),
            tokens.tolist(),
            logprobs.tolist(),
            ended.tolist(),
            suspects.tolist(),
            strict=True,
        )
        finished = []
        for slot, (answer, alive, token, logprob, eos, suspect) in enumerate(rows):
            if not alive:
                continue
            self.token_ids[answer].append(token)
            self.logprobs[answer].append(logprob)
            if eos or (suspect and self.stops.complete(self.token_ids[answer])):
                self.reasons[answer] = "eos" if eos else "stop"
                finished.append(slot)
        self.alive[finished] = False

    def _shrink(self) -> None:
        """Give up slots: keep questions with a live answer, as many slots each as the liveliest needs."""
        questions = self.prefix.padding.shape[0]
        alive = self.alive.view(questions, -1)  # (B', G')
        counts = alive.sum(dim=1)
        kept = counts.nonzero().flatten()
        width = int(counts.max())
        if not width or len(kept) * width > _SHRINK * alive.numel():
            return
        order = alive[kept].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
        slots = (kept[:, None] * alive.shape[1] + order).flatten()
        self.slots, self.alive = self.slots[slots], self.alive[slots]
        self.last_tokens, self.positions = self.last_tokens[slots], self.positions[slots]
        if len(kept) < questions:
            self.prefix.keep(kept)
        self.cache.keep(slots)

    def answers(self) -> list[list[Answer]]:
        texts = self.policy.tokenizer.batch_decode(self.token_ids, skip_special_tokens=True)
        flat = [
            Answer(tuple(ids), tuple(logprobs), self.stops.cut(text), reason)
            for ids, logprobs, text, reason in zip(
                self.token_ids, self.logprobs, texts, self.reasons, strict=True
            )
        ]
        size = self.group_size
        return [flat[start : start + size] for start in range(0, len(flat), size)]

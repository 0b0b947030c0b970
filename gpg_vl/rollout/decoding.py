"""Answers while they grow, a slot each; complete ones give up their slots, which new questions take.

All slots write their next key and value into the same column of the suffix cache. A question that came later
starts at a later column and reads nothing before it, so questions of any age decode together, and columns
that nobody reads any more are dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpg_vl.model.attention import AnswerCache, Layout, Prefix
from gpg_vl.model.logprobs import sampler_logits
from gpg_vl.model.packing import Row, Segment, collate
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.sampling import DRAW_ELEMENTS, Sampling, StopTexts, draw, uniform_stream
from gpg_vl.types import FinishReason

StreamKey = tuple[int, int, str]
"""Seed, step and question id: with the answer's index, what its random stream comes from."""
_SHRINK = 0.75
"""Slots are given up once at most this share of them is needed: giving them up copies the caches."""


@dataclass
class Growing:
    """One answer in the making."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    """None while it grows."""


@dataclass
class _Question:
    """A question with answers that grow."""

    index: int
    prompt_length: int
    start: int
    """The column of the suffix cache in which its answers start."""
    answers: list[Growing]
    """One per slot; those that were complete when slots were given up have none."""

    @property
    def live(self) -> list[int]:
        """The slots, counted within the question, whose answers still grow."""
        return [slot for slot, answer in enumerate(self.answers) if answer.finish_reason is None]


class Decoding:
    """Questions whose answers are being sampled: N' slots, those of a question next to each other."""

    def __init__(
        self, policy: Policy, group_size: int, sampling: Sampling, stops: StopTexts, check_every: int
    ) -> None:
        self._policy, self._group_size, self._sampling = policy, group_size, sampling
        self._stops, self._check_every = stops, check_every
        self._eos = set(policy.eos_token_ids)
        self._stream_length = sampling.max_new_tokens if sampling.temperature > 0 else 1
        self._clear()

    def _clear(self) -> None:
        policy, device = self._policy, self._policy.device
        self._questions: list[_Question] = []
        self._running: set[int] = set()  # questions of which not all answers are known to be complete
        self._pending: list[tuple[Tensor, Tensor]] = []  # tokens and log-probabilities nobody looked at
        self._horizon = 1  # tokens until the next look
        self._prefix: Prefix | None = None
        self._cache = AnswerCache(policy.layers, policy.compute_dtype, self._most_columns)
        self._tokens = torch.zeros(0, dtype=torch.long, device=device)  # (N',) the last ones
        self._positions = torch.zeros(0, dtype=torch.long, device=device)  # (N',) of these
        self._ages = torch.zeros(0, dtype=torch.long, device=device)  # (N',) tokens drawn
        self._starts = torch.zeros(0, dtype=torch.long, device=device)  # (N',) columns
        self._draws = torch.zeros(0, self._stream_length, dtype=torch.float64, device=device)  # (N', T)

    @property
    def _most_columns(self) -> int:
        """The last token of an answer is never read, and those drawn between two looks may run on."""
        return self._sampling.max_new_tokens - 1 + self._check_every

    @property
    def slots(self) -> int:
        """Answers that are decoded together, those included that are complete and not yet given up."""
        return len(self._tokens)

    def admit(
        self,
        indices: Sequence[int],
        prompts: Sequence[EncodedPrompt],
        keys: Sequence[StreamKey],
        growing: Sequence[list[Growing]],
    ) -> None:
        """Read the prompts of new questions, and draw the first token of their answers.

        `indices` are the caller's names of the questions; `growing` receives their answers.
        """
        policy, device, size = self._policy, self._policy.device, self._group_size
        self._look()
        rows = [Row((Segment(prompt, (), ()),)) for prompt in prompts]
        lengths = torch.tensor([row.length for row in rows], device=device)
        hidden, prefix = policy.prefill(collate(rows).to(device), lengths)  # (b, H)
        length = self._cache.get_seq_length()
        streams = [uniform_stream((*key, g), self._stream_length) for key in keys for g in range(size)]
        draws = torch.stack(streams).to(device)  # (b·G, T)
        tokens, logprobs = self._draw(hidden, draws[:, 0].view(-1, size))  # (b, G)
        questions = [
            _Question(index, prompt.length, length, answers)
            for index, prompt, answers in zip(indices, prompts, growing, strict=True)
        ]
        answers = [answer for question in questions for answer in question.answers]
        self._record(answers, tokens.reshape(-1, 1), logprobs.reshape(-1, 1))
        firsts = torch.tensor([prompt.next_position for prompt in prompts], device=device)
        self._questions += questions
        self._running |= set(indices)
        self._plan_look()
        self._prefix = prefix if self._prefix is None else self._prefix.join(prefix)
        self._cache.extend(len(streams))
        self._tokens = torch.cat([self._tokens, tokens.flatten()])
        self._positions = torch.cat([self._positions, firsts.repeat_interleave(size)])
        self._ages = torch.cat([self._ages, torch.ones_like(tokens.flatten())])
        self._starts = torch.cat([self._starts, torch.full_like(tokens.flatten(), length)])
        self._draws = torch.cat([self._draws, draws])
        self._lay_out()

    def _lay_out(self) -> None:
        if self._prefix is not None:
            counts = [len(question.answers) for question in self._questions]
            self._prefix.layout = Layout.of(counts, self._tokens.device)

    def advance(self) -> None:
        """Draw one more token for every slot."""
        if self._prefix is None or not any(question.live for question in self._questions):
            return
        self._prefix.suffix_padding = self._before_start()
        hidden = self._policy.decode(self._tokens, self._positions, self._prefix, self._cache)  # (N', H)
        # A slot whose answer is complete, and not yet known to be, may run past the end of its stream.
        ages = self._ages.clamp(max=self._stream_length - 1)
        tokens, logprobs = self._draw(hidden, self._draws.gather(1, ages[:, None]))  # (N', 1)
        self._tokens = tokens[:, 0]
        self._positions = self._positions + 1
        self._ages = self._ages + 1
        self._pending.append((tokens, logprobs))
        if len(self._pending) >= self._horizon:
            self._look()
            self._plan_look()

    def _before_start(self) -> Tensor | None:
        """(N', T) bool: columns before an answer's first; T counts the one about to be written."""
        if not any(question.start for question in self._questions):
            return None
        columns = torch.arange(self._cache.get_seq_length() + 1, device=self._tokens.device)
        return columns < self._starts[:, None]

    def _draw(self, hidden: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities (n, g) behind hidden states (n, H), with uniforms (n, g).

        Logits exist for a few rows at a time.
        """
        policy, sampling = self._policy, self._sampling
        rows = max(1, DRAW_ELEMENTS // policy.vocabulary)
        parts = []
        for part, u in zip(hidden.split(rows), uniforms.split(rows), strict=True):
            logits = sampler_logits(policy.head(part), sampling.logit_temperature, policy.suppressed_ids)
            parts.append(draw(logits, u, sampling))
        tokens, logprobs = zip(*parts, strict=True)
        return torch.cat(tokens), torch.cat(logprobs)

    def _look(self) -> None:
        """Bring the tokens drawn since the last look to their answers."""
        if self._pending:
            tokens, logprobs = zip(*self._pending, strict=True)
            answers = [answer for question in self._questions for answer in question.answers]
            self._record(answers, torch.cat(tokens, dim=1), torch.cat(logprobs, dim=1))
            self._pending = []

    def _plan_look(self) -> None:
        """Look every few tokens, and when the longest answers reach their limit."""
        lengths = [len(q.answers[slot].token_ids) for q in self._questions for slot in q.live]
        left = self._sampling.max_new_tokens - max(lengths, default=0)
        self._horizon = max(1, min(self._check_every, left))

    def _record(self, answers: Sequence[Growing], tokens: Tensor, logprobs: Tensor) -> None:
        """Append up to each answer's end; tokens and logprobs: (n, t)."""
        for answer, ids, values in zip(answers, tokens.tolist(), logprobs.tolist(), strict=True):
            for token, logprob in zip(ids, values, strict=True):
                if answer.finish_reason is not None:
                    break
                answer.token_ids.append(token)
                answer.logprobs.append(logprob)
                answer.finish_reason = self._ending(answer.token_ids)

    def _ending(self, token_ids: Sequence[int]) -> FinishReason | None:
        if token_ids[-1] in self._eos:
            return "eos"
        if self._stops.complete(token_ids):
            return "stop"
        return "length" if len(token_ids) == self._sampling.max_new_tokens else None

    def retire(self) -> list[int]:
        """Give up slots of complete answers; returns the questions whose last answer is complete now."""
        if self._pending:  # nothing new is known
            return []
        live = {question.index: question.live for question in self._questions}
        complete = [index for index in live if index in self._running and not live[index]]
        self._running -= set(complete)
        kept = [question for question in self._questions if live[question.index]]
        needed = sum(map(len, live.values()))
        if not needed:
            self._clear()
        elif needed <= _SHRINK * self.slots or self._columns_to_drop(kept):
            self._keep(kept, live)
        return complete

    def _columns_to_drop(self, kept: Sequence[_Question]) -> bool:
        """Whether the cache has the longest answer's length, and columns that only complete ones read."""
        length = self._cache.get_seq_length()
        return length >= self._sampling.max_new_tokens - 1 and min(q.start for q in kept) > 0

    def _keep(self, kept: list[_Question], live: Mapping[int, Sequence[int]]) -> None:
        """Keep the live slots of these questions, and the columns that they read."""
        device, slots, rows, first = self._tokens.device, [], [], 0
        for row, question in enumerate(self._questions):
            if live[question.index]:
                rows.append(row)
            slots += [first + slot for slot in live[question.index]]
            first += len(question.answers)
        chosen = torch.tensor(slots, device=device)
        self._tokens, self._positions = self._tokens[chosen], self._positions[chosen]
        self._ages, self._draws = self._ages[chosen], self._draws[chosen]
        column = min(question.start for question in kept)
        self._starts = self._starts[chosen] - column
        self._cache.keep(chosen, column)
        if self._prefix is not None and len(rows) < len(self._questions):
            longest = max(question.prompt_length for question in kept)
            self._prefix.keep(torch.tensor(rows, device=device), longest)
        for question in kept:
            question.answers = [question.answers[slot] for slot in live[question.index]]
            question.start -= column
        self._questions = kept
        self._lay_out()

"""Answers while they grow, a slot each; complete ones give up their slots, which new questions take.

All slots write their next key and value into the same column of the suffix cache. A question that came later
starts at a later column and reads nothing before it, so questions of any age decode together, and columns
that nobody reads any more are dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from gpg_vl.model.attention import CacheView, Prefix
from gpg_vl.model.packing import Row, Segment, collate
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.rollout.graphs import Graphs
from gpg_vl.rollout.sampling import Sampling, StopTexts, uniform_stream
from gpg_vl.rollout.slots import Drawn, HostCopy, Slots, Stepper
from gpg_vl.runtime.profiling import phase
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


@dataclass(frozen=True)
class DecodeOptions:
    """How often the host looks at what was drawn, and in what units caches are read."""

    check_every: int
    """Tokens between two looks. With more than one, what was sent at a look is read at the next, so that the
    device never waits; what it drew behind an answer's end is thrown away."""
    bucket: int
    """Columns of the answers' cache that are read are a multiple of this."""
    graphs: bool = False
    """Whether steps become CUDA graphs."""
    fused: bool = False
    """Whether what stands between a layer's products is Triton kernels, where the layers let it."""


class Decoding:
    """Questions whose answers are being sampled: N' slots, those of a question next to each other."""

    def __init__(
        self,
        policy: Policy,
        group_size: int,
        sampling: Sampling,
        stops: StopTexts,
        options: DecodeOptions,
        positions: int,
    ) -> None:
        """`positions`: how many there are at most in a prompt and its answers."""
        self._policy, self._group_size, self._sampling = policy, group_size, sampling
        self._stops, self._options = stops, options
        self._eos = set(policy.eos_token_ids)
        self._stream_length = sampling.max_new_tokens if sampling.temperature > 0 else 1
        self._stepper = Stepper(
            policy.step_model(positions, fused=options.fused), sampling, policy.suppressed_ids
        )
        plain = self._stepper.model.plain and not sampling.asks_host
        self._graphs = Graphs(enabled=options.graphs and plain)
        self._clear()

    def _clear(self) -> None:
        device, model = self._policy.device, self._stepper.model
        self._questions: list[_Question] = []
        self._running: set[int] = set()  # questions of which not all answers are known to be complete
        self._prefix: Prefix | None = None
        self._cache = model.answer_cache(self._most_columns, self._options.bucket)
        self._column = torch.zeros(1, dtype=torch.long, device=device)  # the next one of the cache
        self._slots = Slots.empty(self._stream_length, device)
        self._drawn = Drawn(0, self._options.check_every, device)
        self._sent: list[tuple[list[Growing], HostCopy]] = []
        self._horizon = 1  # tokens until the next look
        self._graphs.forget()

    @property
    def _most_columns(self) -> int:
        """The last token of an answer is never read, and those drawn between looks may run on."""
        late = self._options.check_every
        return self._sampling.max_new_tokens - 1 + (late if late == 1 else 2 * late)

    @property
    def slots(self) -> int:
        """Answers that are decoded together, those included that are complete and not yet given up."""
        return len(self._slots)

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
        self._send()
        self._receive(all_of_it=True)
        rows = [Row((Segment(prompt, (), ()),)) for prompt in prompts]
        lengths = torch.tensor([row.length for row in rows], device=device)
        hidden, prefix = policy.prefill(collate(rows).to(device), lengths)  # (b, H)
        streams = [uniform_stream((*key, g), self._stream_length) for key in keys for g in range(size)]
        draws = torch.stack(streams).to(device)  # (b·G, T)
        tokens, logprobs = self._stepper.draw(hidden, draws[:, 0].view(-1, size))  # (b, G)
        questions = [
            _Question(index, prompt.length, self._cache.length, answers)
            for index, prompt, answers in zip(indices, prompts, growing, strict=True)
        ]
        answers = [answer for question in questions for answer in question.answers]
        firsts = tokens.reshape(-1, 1).tolist(), logprobs.reshape(-1, 1).tolist()
        self._record(answers, *firsts)
        positions = torch.tensor([prompt.next_position for prompt in prompts], device=device)
        new = Slots(
            tokens=tokens.flatten(),
            positions=positions.repeat_interleave(size),
            ages=torch.ones_like(tokens.flatten()),
            starts=torch.full_like(tokens.flatten(), self._cache.length),
            draws=draws,
        )
        self._questions += questions
        self._running |= set(indices)
        self._cache.extend(prefix, size)
        self._prefix = prefix if self._prefix is None else self._prefix.join(prefix)
        self._slots = self._slots.join(new)
        self._moved()
        self._plan_look()

    def _moved(self) -> None:
        """The slots are others than before."""
        if self._prefix is not None:
            self._prefix.lay_out([len(question.answers) for question in self._questions])
        self._column.fill_(self._cache.length)
        self._drawn = Drawn(len(self._slots), self._options.check_every, self._policy.device)
        self._graphs.forget()

    def advance(self) -> None:
        """Draw one more token for every slot."""
        if not any(question.live for question in self._questions):
            return
        if self._cache.make_room():
            self._graphs.forget()
        alone = self._stepper.model.kernels.finds_columns
        span = self._cache.capacity if alone else self._cache.span
        masked = not alone and (self._options.bucket > 1 or any(one.start for one in self._questions))
        with phase("decode"):
            self._graphs.run((span, masked), lambda: self._step(span, masked=masked))
        self._cache.length += 1
        self._drawn.count += 1
        if self._drawn.count >= self._horizon:
            self._send()
            self._receive(all_of_it=self._all_at_their_limit())
            self._plan_look()

    def _step(self, span: int, *, masked: bool) -> None:
        assert self._prefix is not None
        view = CacheView.of(self._column, self._slots.starts, span, masked=masked)
        self._stepper.step(self._slots, self._prefix, self._cache, self._drawn, view)
        self._column.add_(1)

    def _send(self) -> None:
        """Let the tokens drawn since the last look go to the host."""
        if self._drawn.count:
            answers = [answer for question in self._questions for answer in question.answers]
            self._sent.append((answers, self._drawn.send()))

    def _receive(self, *, all_of_it: bool) -> None:
        """Bring what was sent to its answers; the last of it later, if that lets the device run on."""
        waiting = 0 if all_of_it or self._options.check_every == 1 else 1
        while len(self._sent) > waiting:
            answers, sent = self._sent.pop(0)
            self._record(answers, *sent.read())

    def _all_at_their_limit(self) -> bool:
        """Whether all answers have their limit, so that nothing is left to run on with."""
        return all(self._left(question) <= 0 for question in self._questions if question.live)

    def _left(self, question: _Question) -> int:
        """Tokens until the limit of a question's answers: one was drawn when it came, and one a column."""
        return self._sampling.max_new_tokens - 1 - (self._cache.length - question.start)

    def _plan_look(self) -> None:
        """Look every few tokens, and when the longest answers reach their limit."""
        left = [self._left(question) for question in self._questions if question.live]
        self._horizon = min([self._options.check_every, *(tokens for tokens in left if tokens > 0)])

    def _record(
        self, answers: Sequence[Growing], tokens: Sequence[list[int]], logprobs: Sequence[list[float]]
    ) -> None:
        """Append up to each answer's end; tokens and logprobs: (n, t)."""
        for answer, ids, values in zip(answers, tokens, logprobs, strict=True):
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
        if self._drawn.count:  # nothing new is known
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
        full = self._cache.length >= self._sampling.max_new_tokens - 1
        return full and min(question.start for question in kept) > 0

    def _keep(self, kept: list[_Question], live: Mapping[int, Sequence[int]]) -> None:
        """Keep the live slots of these questions, and the columns that they read."""
        device, slots, rows, first = self._policy.device, [], [], 0
        for row, question in enumerate(self._questions):
            if live[question.index]:
                rows.append(row)
            slots += [first + slot for slot in live[question.index]]
            first += len(question.answers)
        chosen = torch.tensor(slots, device=device)
        column = min(question.start for question in kept)
        self._slots = self._slots.keep(chosen, column)
        self._cache.keep(chosen, column)
        if self._prefix is not None and len(rows) < len(self._questions):
            longest = max(question.prompt_length for question in kept)
            self._prefix.keep(torch.tensor(rows, device=device), longest)
        for question in kept:
            question.answers = [question.answers[slot] for slot in live[question.index]]
            question.start -= column
        self._questions = kept
        self._moved()

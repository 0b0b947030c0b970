"""The state of answers in the making, and the step that draws one more token of each.

A step changes this state in place and asks the host nothing, so that a CUDA graph can repeat it.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gpg_vl.model.attention import AnswerCache, CacheView, Prefix
from gpg_vl.model.logprobs import sampler_logits
from gpg_vl.model.step import StepModel
from gpg_vl.rollout.sampling import Sampling, draw, draw_elements


@dataclass
class Slots:
    """N' answers, one a slot, those of a question next to each other."""

    tokens: Tensor
    """(N',) int64, the last ones."""
    positions: Tensor
    """(N',) int64, of these."""
    ages: Tensor
    """(N',) int64, tokens drawn."""
    starts: Tensor
    """(N',) int64, columns of the answers' cache."""
    draws: Tensor
    """(N', T) float64, uniforms."""

    @classmethod
    def empty(cls, draws: int, device: torch.device) -> "Slots":
        """None yet; they will have so many draws each."""
        names = [item.name for item in fields(cls) if item.name != "draws"]
        numbers = {name: torch.zeros(0, dtype=torch.long, device=device) for name in names}
        return cls(**numbers, draws=torch.zeros(0, draws, dtype=torch.float64, device=device))

    def __len__(self) -> int:
        return len(self.tokens)

    def join(self, other: "Slots") -> "Slots":
        """These and behind them the `other` ones."""
        return Slots(
            *(torch.cat([own, more]) for own, more in zip(_values(self), _values(other), strict=True))
        )

    def keep(self, chosen: Tensor, column: int) -> "Slots":
        """The chosen ones, whose cache now starts at what was `column`."""
        kept = Slots(*(own[chosen] for own in _values(self)))
        kept.starts -= column
        return kept


def _values(slots: Slots) -> list[Tensor]:
    return [getattr(slots, item.name) for item in fields(slots)]


class Drawn:
    """Tokens that the host has not seen yet, up to `most` of each slot."""

    def __init__(self, slots: int, most: int, device: torch.device) -> None:
        self.count = 0
        """Of each slot."""
        self._tokens = torch.zeros(slots, most, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(slots, most, dtype=torch.float32, device=device)
        self._place = torch.zeros(1, dtype=torch.long, device=device)

    def add(self, tokens: Tensor, logprobs: Tensor) -> None:
        """Store one token of each slot, (N', 1) both."""
        self._tokens.index_copy_(1, self._place, tokens)
        self._logprobs.index_copy_(1, self._place, logprobs.float())
        self._place.add_(1)

    def send(self) -> "HostCopy":
        """Start to copy them to the host, and begin anew."""
        sent = HostCopy(self._tokens[:, : self.count], self._logprobs[:, : self.count])
        self._place.zero_()
        self.count = 0
        return sent


class HostCopy:
    """Tokens and log-probabilities on their way to the host."""

    def __init__(self, tokens: Tensor, logprobs: Tensor) -> None:
        self._event = torch.cuda.Event() if tokens.is_cuda else None
        self._tokens, self._logprobs = _to_host(tokens), _to_host(logprobs)
        if self._event is not None:
            self._event.record()

    def read(self) -> tuple[list[list[int]], list[list[float]]]:
        """Wait for them; (N', t) both."""
        if self._event is not None:
            self._event.synchronize()
        return self._tokens.tolist(), self._logprobs.tolist()


def _to_host(values: Tensor) -> Tensor:
    if not values.is_cuda:
        return values.clone()  # the original is written again
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)


@dataclass(frozen=True)
class Stepper:
    """Draws tokens from a model."""

    model: StepModel
    sampling: Sampling
    suppressed: Tensor
    """(s,) ids of tokens that are never drawn."""

    def step(self, slots: Slots, prefix: Prefix, cache: AnswerCache, drawn: Drawn, view: CacheView) -> None:
        """Draw one more token of every slot."""
        hidden = self.model.read(slots.tokens, slots.positions, prefix, cache, view)  # (N', H)
        # A slot whose answer is complete, and not yet known to be, may run past the end of its draws.
        ages = slots.ages.clamp(max=slots.draws.shape[1] - 1)
        tokens, logprobs = self.draw(hidden, slots.draws.gather(1, ages[:, None]))  # (N', 1)
        drawn.add(tokens, logprobs)
        slots.tokens.copy_(tokens[:, 0])
        slots.positions.add_(1)
        slots.ages.add_(1)

    def draw(self, hidden: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities (n, g) behind hidden states (n, H), with uniforms (n, g).

        Logits exist for a few rows at a time.
        """
        parts = []
        rows = max(1, draw_elements(hidden.device.type) // self.model.vocabulary)
        for part, u in zip(hidden.split(rows), uniforms.split(rows), strict=True):
            logits = sampler_logits(self.model.head(part), self.sampling.logit_temperature, self.suppressed)
            parts.append(draw(logits, u, self.sampling))
        if len(parts) == 1:
            return parts[0]
        tokens, logprobs = zip(*parts, strict=True)
        return torch.cat(tokens), torch.cat(logprobs)

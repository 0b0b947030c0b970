"""Small random text models with a vocabulary, and answers decoded from them as a rollout does it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache, PreTrainedConfig

from gpg_vl.model.attention import CacheView, Prefix
from gpg_vl.model.compat import cache_argument
from gpg_vl.model.projection import autocast
from gpg_vl.model.step import StepModel
from gpg_vl.model.step_kernels import PLAIN, StepKernels

VOCABULARY = 40
LONGEST = 100
"""Tokens of a prompt and its answers."""


@torch.no_grad()
def text_model(config: PreTrainedConfig) -> Any:
    """With weights so large that every token matters to what stands behind it; always the same ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config).eval()
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.2)
    return model


def positions_of(model: Any, positions: Tensor) -> Tensor:
    """(S,) as the model's rotary embedding takes them: (1, S), or (3, 1, S) for three axes."""
    axes = hasattr(model.rotary_emb, "mrope_section")
    return positions.expand(3, 1, -1) if axes else positions[None]


@torch.no_grad()
def full_forward(model: Any, tokens: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Hidden states (S, H) of transformers' own forward in arithmetic of this type, as training has it."""
    places = positions_of(model, torch.arange(len(tokens)))
    with autocast(places.device, dtype):
        outputs = model(input_ids=torch.tensor([list(tokens)]), position_ids=places, use_cache=False)
    hidden: Tensor = outputs.last_hidden_state[0]
    return hidden


@torch.no_grad()
def prefix_of(model: Any, prompt: Sequence[int], dtype: torch.dtype = torch.float32) -> Prefix:
    """What decoding needs of one prompt, read by transformers' own forward in arithmetic of this type."""
    states = "linear_attention" in (getattr(model.config, "layer_types", None) or ())
    cache = DynamicCache(config=model.config if states else None)  # by types, layers with a window forget
    places = positions_of(model, torch.arange(len(prompt)))
    caches = {cache_argument(model): cache}
    with autocast(places.device, dtype):
        model(input_ids=torch.tensor([list(prompt)]), position_ids=places, use_cache=True, **caches)
    return Prefix.of(cache, torch.tensor([len(prompt)]), dtype)


def step_model(model: Any, dtype: torch.dtype = torch.float32, kernels: StepKernels = PLAIN) -> StepModel:
    """The model for single tokens, with always the same vocabulary."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(model.config.hidden_size, VOCABULARY, bias=False)
    return StepModel(model, head, dtype, positions_of(model, torch.arange(LONGEST)), kernels)


@dataclass
class Group:
    """Answers of one prompt: their tokens are given, not drawn."""

    prompt: list[int]
    answers: list[list[int]]
    start: int = 0
    """The column of the cache in which they start."""
    rows: list[int] = field(default_factory=list)
    """Those that still grow."""


class Replay:
    """Decodes groups of given answers; a group may come in, and answers may end, between any two tokens."""

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32) -> None:
        self.model, self.step = model, step_model(model, dtype)
        self.groups: list[Group] = []
        self.prefix: Prefix | None = None
        self.cache = self.step.answer_cache(LONGEST, 1)
        self.seen: dict[tuple[int, int], list[Tensor]] = {}
        """Hidden states (H,) behind the tokens of each answer, by its prompt's length and its row."""

    def admit(self, group: Group) -> None:
        """Its answers start at the next column."""
        group.start, group.rows = self.cache.length, list(range(len(group.answers)))
        prefix = prefix_of(self.model, group.prompt, self.step.dtype)
        self.cache.extend(prefix, len(group.rows))
        self.prefix = prefix if self.prefix is None else self.prefix.join(prefix)
        self.groups.append(group)
        self.prefix.lay_out([len(one.rows) for one in self.groups])

    @torch.no_grad()
    def advance(self, tokens: int) -> None:
        """Read so many tokens of every answer."""
        assert self.prefix is not None
        for _ in range(tokens):
            slots = [(group, row) for group in self.groups for row in group.rows]
            ages = [self.cache.length - group.start for group, _ in slots]
            read = [group.answers[row][age] for (group, row), age in zip(slots, ages, strict=True)]
            places = [len(group.prompt) + age for (group, _), age in zip(slots, ages, strict=True)]
            starts = torch.tensor([group.start for group, _ in slots])
            self.cache.make_room()
            column = torch.tensor([self.cache.length])
            view = CacheView.of(column, starts, self.cache.span, masked=bool(starts.any()))
            hidden = self.step.read(torch.tensor(read), torch.tensor(places), self.prefix, self.cache, view)
            self.cache.length += 1
            for (group, row), one in zip(slots, hidden, strict=True):
                self.seen.setdefault((len(group.prompt), row), []).append(one)

    def end(self, ended: Sequence[tuple[int, int]]) -> None:
        """Give up these answers, (group, row) each, their prompts and the columns that nobody else reads."""
        assert self.prefix is not None
        numbered = [(g, row) for g, group in enumerate(self.groups) for row in group.rows]
        for g, row in ended:
            self.groups[g].rows.remove(row)
        kept = [g for g, group in enumerate(self.groups) if group.rows]
        first = min(self.groups[g].start for g in kept)
        self.cache.keep(torch.tensor([i for i, one in enumerate(numbered) if one not in ended]), first)
        if len(kept) < len(self.groups):
            self.prefix.keep(torch.tensor(kept), max(len(self.groups[g].prompt) for g in kept))
        self.groups = [self.groups[g] for g in kept]
        for group in self.groups:
            group.start -= first
        self.prefix.lay_out([len(group.rows) for group in self.groups])


def replayed(
    model: Any, dtype: torch.dtype = torch.float32, *, prompts: Sequence[int] = (5, 12)
) -> list[tuple[Tensor, Tensor]]:
    """Hidden states (T, H) of six answers by steps, and by transformers' forward over each of them alone.

    Their two prompts have so many tokens; the second group comes later, and answers end at different times.
    """
    generator = torch.Generator().manual_seed(1)

    def tokens(count: int) -> list[int]:
        return torch.randint(VOCABULARY, (count,), generator=generator).tolist()

    groups = [Group(tokens(length), [tokens(16) for _ in range(3)]) for length in prompts]
    replay = Replay(model, dtype)
    replay.admit(groups[0])
    replay.advance(3)
    replay.admit(groups[1])
    replay.advance(2)
    replay.end([(0, 1)])
    replay.advance(3)
    replay.end([(0, 0), (1, 2)])
    replay.advance(2)
    replay.end([(0, 2)])  # the group with its prompt and columns
    replay.advance(4)
    pairs = []
    for group in groups:
        for row, answer in enumerate(group.answers):
            given = torch.stack(replay.seen[len(group.prompt), row])
            whole = full_forward(model, group.prompt + answer[: len(given)], dtype)
            pairs.append((given, whole[len(group.prompt) :]))
    return pairs


def largest_difference(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Of hidden states, in units of the largest of them."""
    return max(float((given - full).abs().max() / full.abs().max()) for given, full in pairs)

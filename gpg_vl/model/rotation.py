"""Rotary embeddings for one token of each answer: tables of all positions, looked up once a step."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Turn(NamedTuple):
    """What a layer does to queries and keys."""

    kind: str | None
    """The layer's type, where the embedding knows several."""
    scaling: float
    """What queries are multiplied by."""
    head_size: int


@dataclass(frozen=True)
class Rotation:
    """Rotary embedding of one token of each answer, for its heads of queries, keys and values together.

    Only the first `size` numbers of a head are turned. Queries are scaled too, and values stay what they are.
    """

    cosines: Tensor
    """(N, heads + 2 · KV heads, D) fp32."""
    sines: Tensor
    """The same; negative in the first half of `size`, and 0 behind it."""
    size: int

    def __call__(self, heads: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, heads + 2 · KV heads, D) to the same in `dtype`."""
        turned = torch.empty_like(heads, dtype=dtype)
        other = heads[..., : self.size].roll(self.size // 2, dims=-1)
        if self.size < heads.shape[-1]:
            other = torch.cat([other, heads[..., self.size :]], dim=-1)
        return torch.addcmul(heads * self.cosines, other, self.sines, out=turned)


class Rotations:
    """Tables of a text model's rotary embedding, for every turn that its layers take."""

    def __init__(
        self, embedding: Any, positions: Tensor, turns: Iterable[Turn], heads: tuple[int, int]
    ) -> None:
        """`positions`: all that tokens may have, as the embedding takes them; `heads`: numbers of queries and
        of keys."""
        self._heads = heads
        self._tables: dict[Turn, tuple[Tensor, Tensor, int]] = {}
        for turn in turns:
            kinds = () if turn.kind is None else (turn.kind,)
            cosines, sines = embedding(positions.new_zeros(1, dtype=torch.float32), positions, *kinds)
            self._tables[turn] = (*_tables(cosines, sines, turn), cosines.shape[-1])
        self._last = positions.shape[-1] - 1

    def at(self, positions: Tensor) -> dict[Turn, Rotation]:
        """Of tokens at positions (N,); those beyond all are taken for the last."""
        positions = positions.clamp(max=self._last)
        return {
            turn: Rotation(self._spread(cosines[positions]), self._spread(sines[positions]), size)
            for turn, (cosines, sines, size) in self._tables.items()
        }

    def _spread(self, table: Tensor) -> Tensor:
        """(N, 3, D) for each head: (N, heads + 2 · KV heads, D)."""
        heads, kv_heads = self._heads
        queries, keys, values = table.unbind(dim=1)
        parts = [(queries, heads), (keys, kv_heads), (values, kv_heads)]
        return torch.cat([part[:, None].expand(-1, count, -1) for part, count in parts], dim=1)


def _tables(cosines: Tensor, sines: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
    """(1, positions, size) both to (positions, 3, D): for queries, which are scaled, for keys, for values."""
    first, second = sines[0].float().chunk(2, dim=-1)
    rest = turn.head_size - cosines.shape[-1]
    cosines = pad(cosines[0].float(), (0, rest), value=1)
    sines = pad(torch.cat([-first, second], dim=-1), (0, rest))
    nothing = torch.zeros_like(sines)
    return (
        torch.stack([turn.scaling * cosines, cosines, nothing + 1], dim=1),
        torch.stack([turn.scaling * sines, sines, nothing], dim=1),
    )


def turn_of(text_model: Any, number: int) -> Turn:
    """What the attention of a layer does to queries and keys."""
    known = inspect.signature(text_model.rotary_emb.forward).parameters
    kind = text_model.config.layer_types[number] if "layer_type" in known else None
    attention = text_model.layers[number].self_attn
    return Turn(kind, attention.scaling, attention.head_dim)

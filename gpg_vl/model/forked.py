"""Packed rows through layers that carry a state along the row: each answer goes on from its prompt's.

A mask keeps nothing out of such a state. So every layer reads the prompts first, and then the answers, which
get copies of their prompt's state, keys and values: a prompt is still read once, and gradients pass through.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpg_vl.model.compat import cache_argument
from gpg_vl.model.packing import Fork


class _Carried:
    """What one layer carries from prompts to answers: a cache in transformers' interface, with gradients."""

    record_past = False  # as transformers 5.17 asks

    def __init__(self) -> None:
        self._keys_values: tuple[Tensor, Tensor] | None = None
        self._convolved: Tensor | None = None
        self._state: Tensor | None = None

    def fork(self, owners: Tensor) -> None:
        """Let answers (N,) go on from the prompts that they belong to."""
        if self._keys_values is not None:
            keys, values = self._keys_values
            self._keys_values = keys[owners], values[owners]
        if self._convolved is not None and self._state is not None:
            self._convolved, self._state = self._convolved[owners], self._state[owners]

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values (n, KV heads, tokens, D) behind those that there are."""
        if self._keys_values is not None:
            pairs = zip(self._keys_values, (keys, values), strict=True)
            keys, values = (torch.cat(pair, dim=2) for pair in pairs)
        self._keys_values = keys, values
        return keys, values

    def update_conv_state(self, inputs: Tensor, *_: Any, conv_kernel_size: int, **__: Any) -> Tensor:
        """A convolution's inputs (n, channels, tokens) behind its last ones."""
        joined = inputs if self._convolved is None else torch.cat([self._convolved, inputs], dim=-1)
        missing = max(0, conv_kernel_size - joined.shape[-1])
        self._convolved = nn.functional.pad(joined, (missing, 0))[..., -conv_kernel_size:]
        return joined

    def update_recurrent_state(self, state: Tensor, *_: Any, **__: Any) -> Tensor:
        self._state = state
        return state

    def get_conv_state(self, *_: Any, **__: Any) -> Tensor | None:
        return self._convolved

    def get_recurrent_state(self, *_: Any, **__: Any) -> Tensor | None:
        return self._state

    def is_recording_past(self, *_: Any) -> bool:
        return self.record_past

    # transformers 5.17 looks into the cache's layers
    @property
    def layers(self) -> "_Carried":
        return self

    def __getitem__(self, _: int) -> "_Carried":
        return self

    def has_previous_state(self, *_: Any, **__: Any) -> bool:
        return self._state is not None

    @property
    def conv_states(self) -> list[Tensor | None]:
        return [self._convolved]

    @property
    def recurrent_states(self) -> list[Tensor | None]:
        return [self._state]


def read_forked(text_model: Any, embeds: Tensor, positions: Tensor, fork: Fork, dtype: torch.dtype) -> Tensor:
    """Last hidden states (R, S, H) of packed rows.

    embeds: (R, S, H); positions: (…, R, S), as the text model takes them; `dtype` is the arithmetic's.
    """
    parts = (fork.prompts, fork.answers)
    streams = [_gathered(embeds.flatten(0, 1), part) for part in parts]
    places = [positions.flatten(-2)[..., part.clamp(min=0)] for part in parts]
    read = partial(
        _layer,
        owners=fork.owners,
        turned=[text_model.rotary_emb(embeds, place) for place in places],
        masks=_masks(fork.prompts >= 0, fork.answers >= 0, fork.owners, dtype),
        present=fork.prompts >= 0,
    )
    for layer in text_model.layers:
        if text_model.training and getattr(layer, "gradient_checkpointing", False):
            streams = checkpoint(read, layer, *streams, use_reentrant=False)
        else:
            streams = read(layer, *streams)
    hidden = text_model.norm(torch.cat([stream.flatten(0, 1) for stream in streams]))
    rows, tokens = embeds.shape[:2]
    nowhere = rows * tokens  # where padding goes
    slots = torch.cat([part.flatten() for part in parts])
    out = hidden.new_zeros(nowhere + 1, hidden.shape[-1])
    out = out.index_copy(0, torch.where(slots < 0, nowhere, slots), hidden)
    return out[:-1].view(rows, tokens, -1)


def _gathered(flat: Tensor, places: Tensor) -> Tensor:
    """(R·S, H) to (n, tokens, H), zero where there is no token: that leaves a state of zero as it is."""
    return flat[places.clamp(min=0)] * (places >= 0)[..., None]


def _layer(
    layer: Any,
    prompts: Tensor,
    answers: Tensor,
    *,
    owners: Tensor,
    turned: list[tuple[Tensor, Tensor]],
    masks: tuple[Tensor, Tensor],
    present: Tensor,
) -> list[Tensor]:
    """Hidden states of prompts (Q, P, H) and answers (N, T, H) behind a layer."""
    carried, softmax = _Carried(), hasattr(layer, "self_attn")
    given = {cache_argument(layer): carried}
    with _keeping_caches(layer):
        own: Tensor | None = masks[0] if softmax else present
        prompts = layer(prompts, position_embeddings=turned[0], attention_mask=own, **given)
        carried.fork(owners)
        own = masks[1] if softmax else None  # padding is behind an answer
        answers = layer(answers, position_embeddings=turned[1], attention_mask=own, **given)
    return [prompts, answers]


@contextlib.contextmanager
def _keeping_caches(layer: Any) -> Iterator[None]:
    """Without transformers' own checkpointing of a layer, which drops caches."""
    checkpointed = getattr(layer, "gradient_checkpointing", False)
    layer.gradient_checkpointing = False
    try:
        yield
    finally:
        layer.gradient_checkpointing = checkpointed


def _masks(prompts: Tensor, answers: Tensor, owners: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What prompts and answers read, (Q, 1, P, P) and (N, 1, T, P + T), as attention adds it to its scores.

    prompts: (Q, P) and answers: (N, T) bool, where there is a token. One that is padding reads itself, too: a
    row that reads nothing would be NaN.
    """

    def causal(size: int) -> Tensor:
        return torch.ones(size, size, dtype=torch.bool, device=owners.device).tril()

    def added(allowed: Tensor) -> Tensor:
        mask = torch.full(allowed.shape, float("-inf"), dtype=dtype, device=owners.device)
        return mask.masked_fill_(allowed, 0.0)[:, None]

    tokens = prompts.shape[1]
    itself = torch.eye(tokens, dtype=torch.bool, device=owners.device)
    own = (causal(tokens) & prompts[:, None]) | itself
    size = answers.shape[1]
    before = prompts[owners][:, None].expand(-1, size, -1)
    behind = causal(size).expand(len(owners), -1, -1)
    return added(own), added(torch.cat([before, behind], dim=2))

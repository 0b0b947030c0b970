"""What the stand-in for a vLLM server answers with: the project's own engine, on weights of its own.

It reads prompts as vLLM does, from token ids with one mark an image and from the images, by the model's own
processor; nothing of how the trainer encodes them is used.
"""

import base64
import io
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from gpg_vl.model.loading import load_policy
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.prompting.image_reader import NO_GRID, mrope_positions
from gpg_vl.rollout.engine import Answer, Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling

PIXELS = {"shortest_edge": 784, "longest_edge": 401408}
"""Limits of its processor, as `gpg-vl serve` sets them."""
BANNED = -50.0
"""A bias of logits below which a token is never sampled."""


class Served:
    """A model as a server holds it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = str(folder)
        self.policy = load_policy(self.folder, precision="fp32").eval()
        self.engine = OwnEngine(self.policy, max_concurrent=256)
        self.weights = dict(self._stored(self.policy.model))

    @staticmethod
    def _stored(model: Any) -> Iterable[tuple[str, Tensor]]:
        """Parameters by their names in a checkpoint."""
        for name, weight in model.named_parameters():
            (stored,) = revert_weight_conversion(model, {name: weight})
            yield stored, weight

    def read(self, token_ids: Sequence[int], images: Sequence[Image.Image]) -> EncodedPrompt:
        """Raises ValueError unless there is a mark for each image."""
        processor = self.policy.processor
        pixels, grid, ids = None, NO_GRID, list(token_ids)
        mark = getattr(processor, "image_token_id", None)
        if ids.count(mark) != len(images):
            raise ValueError(f"{ids.count(mark)} marks for {len(images)} images")
        if images:
            read = processor.image_processor(images=list(images), size=PIXELS, return_tensors="pt")
            pixels, grid = read["pixel_values"], read["image_grid_thw"]
            merged = processor.image_processor.merge_size**2
            runs = iter((grid.prod(dim=1) // merged).tolist())
            ids = [one for token in ids for one in ([token] * next(runs) if token == mark else [token])]
        mask = torch.tensor([token == mark for token in ids])
        positions = torch.arange(len(ids)).expand(3, -1)
        if images:
            positions = mrope_positions(mask, grid, processor.image_processor.merge_size)
        return EncodedPrompt(torch.tensor(ids), positions, mask, pixels, grid)

    def answer(
        self,
        prompt: EncodedPrompt,
        params: Mapping[str, Any],
        watch: Callable[[Sequence[Sequence[int]]], None],
    ) -> list[Answer]:
        """`n` answers; the draws of answer g come from `seed` + g alone."""
        bias = {int(token): value for token, value in params.get("logit_bias", {}).items()}
        assert all(value < BANNED for value in bias.values()), "only bans are known here"
        self.policy.suppressed_ids = torch.tensor(sorted(bias), dtype=torch.long)
        assert params["ignore_eos"], "else the model's own would end answers"
        self.policy.model.generation_config.eos_token_id = list(params["stop_token_ids"])
        sampling = Sampling(
            params["max_tokens"],
            params["temperature"],
            params["top_p"],
            params["top_k"],
            params["min_p"],
            tuple(params["stop"]),
        )
        seed = secrets.randbits(32) if params["seed"] is None else params["seed"]
        requests = [Request(prompt, "", seed + g) for g in range(params["n"])]
        return [group[0] for group in self.engine.generate(requests, 1, sampling, watch=watch)]

    @torch.no_grad()
    def load(self, named: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Take weights by their names in a checkpoint; returns these. Raises KeyError for unknown ones."""
        loaded = set()
        for name, tensor in named:
            if name == "lm_head.weight" and name not in self.weights:
                continue  # is the embedding
            self.weights[name].copy_(tensor)
            loaded.add(name)
        return loaded


def image_of(url: str) -> Image.Image:
    """The image in a data URL."""
    kind, _, data = url.partition(";base64,")
    assert kind == "data:image/png", kind
    return Image.open(io.BytesIO(base64.b64decode(data)))

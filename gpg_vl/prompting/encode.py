"""Samples to token ids, image patches and M-RoPE positions, each question once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor

from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.prompting.image_size import resized, seen_size
from gpg_vl.prompting.prompts import IMAGE_PLACEHOLDER, BoxSpace, Prompt, View, answer_text, convert_box
from gpg_vl.types import Box, Sample

_OF_TEMPLATES = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError)
"""Refusals of a chat template, and mistakes in it."""
_NO_IMAGE = torch.zeros(0, 3, dtype=torch.long)


@dataclass(frozen=True)
class EncodedPrompt:
    """One question as the model reads it."""

    token_ids: Tensor
    """(P,) int64, image placeholders expanded."""
    position_ids: Tensor
    """(3, P) int64: M-RoPE positions in time, height and width."""
    image_mask: Tensor
    """(P,) bool: where image features stand."""
    pixel_values: Tensor | None
    """(patches, patch size) float32 of all its images; None for text."""
    grid: Tensor
    """(images, 3) int64: patches of each image in time, height and width."""
    opens_think: bool = False
    """Whether the answer starts inside `<think>`: some chat templates open it by themselves."""

    @property
    def length(self) -> int:
        return len(self.token_ids)

    def without_pixels(self) -> "EncodedPrompt":
        """What other processes need of it: everything but the images."""
        return replace(self, pixel_values=None)

    @property
    def next_position(self) -> int:
        """The M-RoPE position of the first answer token."""
        return int(self.position_ids.max()) + 1


@dataclass(frozen=True)
class Question:
    """A sample as the model reads it."""

    sample: Sample
    prompt: EncodedPrompt


class PromptEncoder:
    """Renders prompts and runs the processor; the same object serves training, evaluation and the app."""

    def __init__(
        self, processor: Any, prompt: Prompt, *, family: str, min_pixels: int, max_pixels: int
    ) -> None:
        """`family` is the model's type, such as qwen2_vl; it decides the space of boxes in answers."""
        self.processor = processor
        self.prompt = prompt
        self.box_space: BoxSpace = prompt.boxes_in(family)
        self.takes_images = hasattr(processor, "image_processor")
        self.tokenizer = processor.tokenizer if self.takes_images else processor
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        if self.takes_images:
            self.patch_size: int = processor.image_processor.patch_size
            self.merge_size: int = processor.image_processor.merge_size
            self.factor = self.patch_size * self.merge_size  # pixels along a side of an image token
            if max_pixels < self.factor**2:
                raise ConfigurationError(
                    f"model.max_pixels {max_pixels} holds no token: one has {self.factor}×{self.factor} = "
                    f"{self.factor**2} pixels"
                )

    def text(self, sample: Sample) -> str:
        """The whole prompt as text, one placeholder per image.

        Raises DataError for an image before a text model, and for a question with special tokens;
        ConfigurationError without a chat template that takes it.
        """
        if sample.images and not self.takes_images:
            raise DataError(f"sample {sample.id!r} has an image, and the model takes text only")
        if self.prompt.template == "base":
            return IMAGE_PLACEHOLDER * len(sample.images) + self.prompt.user_text(sample)
        return self._chat(sample)

    def _chat(self, sample: Sample) -> str:
        template = self.processor.chat_template
        if template is None:  # older files have it at the tokenizer alone
            template = self.tokenizer.chat_template
        if isinstance(template, dict):  # several by name, one for tools
            template = template.get("default")
        if template is None:
            raise ConfigurationError(
                f"the model has no chat template, which prompt.template {self.prompt.template!r} needs; "
                "base models take `base`"
            )
        messages = self.prompt.messages(sample)
        try:
            rendered: str = self.processor.apply_chat_template(
                messages,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except _OF_TEMPLATES as error:
            raise ConfigurationError(
                f"the model's chat template does not take sample {sample.id!r}: {error}; "
                "see prompt.system and prompt.template"
            ) from error
        if self.prompt.user_text(sample).strip() not in rendered:
            raise ConfigurationError(
                f"the model's chat template leaves out or changes the question of sample {sample.id!r}"
            )
        if self.takes_images and rendered.count(self.processor.image_token) != len(sample.images):
            raise ConfigurationError(
                f"the model's chat template has {rendered.count(self.processor.image_token)} places for the "
                f"{len(sample.images)} images of sample {sample.id!r}; is it that of a text model?"
            )
        return rendered

    def questions(self, samples: Sequence[Sample]) -> list[Question]:
        """Samples with their encoded prompts."""
        return [Question(*pair) for pair in zip(samples, self.encode(samples), strict=True)]

    def encode(self, samples: Sequence[Sample]) -> list[EncodedPrompt]:
        """Encode samples in one processor call. Raises DataError as `text` does."""
        if not samples:
            return []
        texts = [self.text(sample) for sample in samples]
        if not self.takes_images:
            return [
                self._prompt(text, ids, None, _NO_IMAGE)
                for text, ids in zip(texts, self._ids(texts), strict=True)
            ]
        images = [resized(image, self._size(sample, image)) for sample in samples for image in sample.images]
        outputs = self.processor(
            text=texts,
            images=images or None,
            do_resize=False,  # each has its size already; twice would blur
        )
        grids = torch.as_tensor(outputs["image_grid_thw"]) if images else _NO_IMAGE
        pixels = torch.as_tensor(outputs["pixel_values"]) if images else None
        prompts, image, patch = [], 0, 0
        for sample, text, ids in zip(samples, texts, outputs["input_ids"], strict=True):
            grid = grids[image : image + len(sample.images)]
            patches = int(grid.prod(dim=1).sum())
            own = pixels[patch : patch + patches] if pixels is not None and patches else None
            prompts.append(self._prompt(text, ids, own, grid))
            self._check_planned(sample, prompts[-1])
            image, patch = image + len(sample.images), patch + patches
        return prompts

    def _check_planned(self, sample: Sample, prompt: EncodedPrompt) -> None:
        """Raise DataError unless images became what lengths and boxes are worked out by."""
        sizes = [self._size(sample, image) for image in sample.images]
        planned = [[1, height // self.patch_size, width // self.patch_size] for width, height in sizes]
        tokens = self.image_tokens(sample)
        if prompt.grid.tolist() != planned or int(prompt.image_mask.sum()) != tokens:
            raise DataError(
                f"sample {sample.id!r}: the processor made patches of {prompt.grid.tolist()} and "
                f"{int(prompt.image_mask.sum())} tokens of images that should be {planned} and {tokens}"
            )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts. A chat template writes its own first token, where there is one."""
        special = self.prompt.template == "base"
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=special)["input_ids"]
        return ids

    def _prompt(self, text: str, ids: Sequence[int], pixels: Tensor | None, grid: Tensor) -> EncodedPrompt:
        token_ids = torch.tensor(ids)
        image_mask = token_ids == (self.processor.image_token_id if self.takes_images else -1)
        return EncodedPrompt(
            token_ids=token_ids,
            position_ids=mrope_positions(image_mask, grid, self.merge_size if self.takes_images else 1),
            image_mask=image_mask,
            pixel_values=pixels,
            grid=grid,
            opens_think=_opens_think(text),
        )

    def _size(self, sample: Sample, image: Image.Image) -> tuple[int, int]:
        """Width and height in pixels as the model sees it. Raises DataError for an image it cannot see."""
        limits = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        try:
            return seen_size(image.width, image.height, factor=self.factor, **limits)
        except ValueError as error:
            raise DataError(f"sample {sample.id!r}: image {image.width}×{image.height}: {error}") from error

    def view(self, sample: Sample) -> View:
        """How the model sees the first image, which is the one that boxes are about."""
        image = sample.images[0]
        return View((image.width, image.height), self._size(sample, image))

    def to_image(self, sample: Sample) -> Callable[[Box], Box] | None:
        """Takes boxes of the model's answers to pixels of the stored image; None if none are asked for."""
        if sample.answer_type != "boxes" or not sample.images:
            return None
        return partial(convert_box, source=self.box_space, target="image", view=self.view(sample))

    def target(self, sample: Sample) -> str:
        """The text of the gold answer after this prompt, for supervised training.

        The reasoning is the sample's `meta["think"]`, empty where the source has none.
        """
        view = self.view(sample) if sample.images else None
        answer = answer_text(sample, self.box_space, view)
        target = self.prompt.completion_target(answer, str(sample.meta.get("think", "")))
        return target.removeprefix("<think>") if _opens_think(self.text(sample)) else target

    def supervised_prompt_length(self, sample: Sample, *, context: int) -> int:
        """As `prompt_length`. Raises DataError if the gold answer does not fit `context` behind it."""
        prompt = self.prompt_length(sample)
        target = self.tokenizer(self.target(sample), add_special_tokens=False)["input_ids"]
        if prompt + len(target) + 1 > context:
            raise DataError(
                f"sample {sample.id!r}: prompt and gold answer have {prompt + len(target) + 1} tokens, the "
                f"model's context {context}"
            )
        return prompt

    def prompt_length(self, sample: Sample) -> int:
        """Tokens of the encoded prompt, from image sizes alone (nothing is decoded or resized)."""
        return len(self._ids([self.text(sample)])[0]) - len(sample.images) + self.image_tokens(sample)

    def image_tokens(self, sample: Sample) -> int:
        """Image tokens of the encoded prompt, from image sizes alone."""
        sizes = (self._size(sample, image) for image in sample.images)
        return sum(width * height // self.factor**2 for width, height in sizes)


def _opens_think(prompt: str) -> bool:
    return prompt.rstrip().endswith("<think>")


def mrope_positions(image_mask: Tensor, grid: Tensor, merge_size: int) -> Tensor:
    """M-RoPE positions of a prompt with images.

    image_mask: (P,) bool; grid: (images, 3) patches. Returns (3, P) int64. Text advances all three axes
    by one; an image spans its merged height and width from a common start, and the text after it
    continues at start + max(height, width). Source: Qwen2-VL, arXiv 2409.12191, section 2.1.
    """
    positions = torch.zeros(3, len(image_mask), dtype=torch.long)
    index, position = 0, 0
    starts = _image_starts(image_mask, grid, merge_size)
    for start, (time, height, width) in zip(starts, grid.tolist(), strict=True):
        text = start - index
        positions[:, index:start] = position + torch.arange(text)
        position += text
        height, width = height // merge_size, width // merge_size
        axes = torch.meshgrid(torch.arange(time), torch.arange(height), torch.arange(width), indexing="ij")
        index = start + time * height * width
        positions[:, start:index] = position + torch.stack([axis.flatten() for axis in axes])
        position += max(height, width)
    positions[:, index:] = position + torch.arange(len(image_mask) - index)
    return positions


def _image_starts(image_mask: Tensor, grid: Tensor, merge_size: int) -> list[int]:
    """Index of each image's first token; images may stand next to each other."""
    slots = image_mask.nonzero().flatten().tolist()
    sizes = (grid.prod(dim=1) // merge_size**2).tolist()
    firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slots[first] for first in firsts]

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
from gpg_vl.prompting.format import PromptFormat
from gpg_vl.prompting.image_reader import ImageReader, ReadPrompt, Size
from gpg_vl.prompting.prompts import (
    BoxSpace,
    Prompt,
    View,
    answer_text,
    convert_box,
    question_text,
    special_token,
)
from gpg_vl.types import Box, Sample

_OF_TEMPLATES = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError)
"""Refusals of a chat template, and mistakes in it."""


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
    """float32 of all its images, (patches, patch size), or tiles of one size (tiles, 3, height, width); None
    for text."""
    grid: Tensor
    """(images, 3) int64: patches of each image in time, height and width; (0, 3) where images are tiles."""
    pixel_mask: Tensor | None = None
    """(tiles, height, width) bool, where a tile is no padding; None for families whose tiles have none."""
    opens_think: bool = False
    """Whether the answer starts inside `<think>`: some chat templates open it by themselves."""

    @property
    def length(self) -> int:
        return len(self.token_ids)

    @property
    def has_images(self) -> bool:
        return bool(self.image_mask.any())

    def without_pixels(self) -> "EncodedPrompt":
        """What other processes need of it: everything but the images."""
        return replace(self, pixel_values=None, pixel_mask=None)

    @property
    def next_position(self) -> int:
        """The M-RoPE position of the first answer token."""
        return int(self.position_ids.max()) + 1


@dataclass(frozen=True)
class Unexpanded:
    """A prompt as a processor takes it, which is to make the same `EncodedPrompt` of it."""

    token_ids: list[int]
    """With one mark in the place of each image."""
    images: tuple[Image.Image, ...]
    """In the size that the model sees, RGB."""


@dataclass(frozen=True)
class Question:
    """A sample as the model reads it."""

    sample: Sample
    prompt: EncodedPrompt


class PromptEncoder:
    """Renders prompts and runs the processor; the same object serves training, evaluation and the app."""

    def __init__(
        self, processor: Any, prompt: Prompt, *, family: PromptFormat, min_pixels: int, max_pixels: int
    ) -> None:
        """Raises ConfigurationError for pixel limits that no image can keep, and for special tokens in the
        prompt's own words."""
        self.processor = processor
        self.prompt = prompt
        self.family = family
        self.box_space: BoxSpace = prompt.boxes_in(family.box_space)
        self.tokenizer = processor if family.reader is None else processor.tokenizer
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        limits = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self.reader: ImageReader | None = family.reader(processor, **limits) if family.reader else None
        added = self.tokenizer.added_tokens_decoder.values()
        special = {*family.image_markup, *(str(token) for token in added if token.special)}
        special |= {self.reader.mark, self.reader.slot} if self.reader else set()
        self._special = sorted(special)
        for name, words in (("instruction", prompt.instruction), ("system", prompt.system)):
            if token := special_token(words or "", self._special):
                raise ConfigurationError(f"prompt.{name} contains the special token {token}")

    @property
    def takes_images(self) -> bool:
        """Whether the model is a vision-language model."""
        return self.reader is not None

    def text(self, sample: Sample) -> str:
        """The whole prompt as text, one placeholder per image.

        Raises DataError for an image before a text model, and for a question with special tokens;
        ConfigurationError without a chat template that takes it.
        """
        if sample.images and not self.takes_images:
            raise DataError(f"sample {sample.id!r} has an image, and the model takes text only")
        own = self.prompt.user_text(sample)
        if token := special_token(question_text(sample), self._special):
            raise DataError(f"sample {sample.id!r}: the question contains the special token {token}")
        if self.prompt.template == "base":
            return self.family.placeholder * len(sample.images) + own
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
        messages = self.prompt.messages(sample, parts=self.takes_images)
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
        if self.reader and (places := rendered.count(self.reader.mark)) != len(sample.images):
            raise ConfigurationError(
                f"the model's chat template has {places} places for the {len(sample.images)} images of "
                f"sample {sample.id!r}; is it that of a text model?"
            )
        return rendered

    def unexpanded(self, sample: Sample) -> Unexpanded:
        """The prompt before a processor makes tokens of its images. Raises DataError as `text` does."""
        (ids,) = self._ids([self.text(sample)])
        return Unexpanded(ids, tuple(self.reader.pictures(sample.images)) if self.reader else ())

    def questions(self, samples: Sequence[Sample]) -> list[Question]:
        """Samples with their encoded prompts."""
        return [Question(*pair) for pair in zip(samples, self.encode(samples), strict=True)]

    def encode(self, samples: Sequence[Sample]) -> list[EncodedPrompt]:
        """Encode samples together. Raises DataError as `text` does."""
        if not samples:
            return []
        texts = [self.text(sample) for sample in samples]
        if self.reader is None:
            read = [ReadPrompt(torch.tensor(ids)) for ids in self._ids(texts)]
        else:
            for sample in samples:
                self._seen(sample)  # or says which sample's image cannot be read
            images = [sample.images for sample in samples]
            read = self.reader.read(texts, images, special=self.adds_special(texts[0]))
        return [self._prompt(*one) for one in zip(samples, texts, read, strict=True)]

    def _prompt(self, sample: Sample, text: str, read: ReadPrompt) -> EncodedPrompt:
        """Raises DataError unless images became what lengths and boxes are worked out by."""
        mask = torch.zeros(len(read.token_ids), dtype=torch.bool)
        positions = torch.arange(len(mask)).expand(3, -1)
        if self.reader is not None:
            mask = read.token_ids == self.tokenizer.convert_tokens_to_ids(self.reader.slot)
            patches, tokens = read.grid.tolist(), int(mask.sum())
            planned = self.reader.grid([image.size for image in sample.images]).tolist()
            if (patches, tokens) != (planned, self.image_tokens(sample)):
                raise DataError(
                    f"sample {sample.id!r}: the processor made patches of {patches} and {tokens} tokens of "
                    f"images that should be {planned} and {self.image_tokens(sample)}"
                )
            positions = self.reader.positions(mask, read.grid)
        return EncodedPrompt(
            token_ids=read.token_ids,
            position_ids=positions,
            image_mask=mask,
            pixel_values=read.pixel_values,
            grid=read.grid,
            pixel_mask=read.pixel_mask,
            opens_think=_opens_think(text),
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        special = self.adds_special(texts[0])
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=special)["input_ids"]
        return ids

    def adds_special(self, text: str) -> bool:
        """Whether the tokenizer writes a first token before a prompt, as in transformers: a text model's chat
        template does so itself, a vision-language model's may."""
        if self.prompt.template == "base" or self.reader is None:
            return self.prompt.template == "base"
        first = self.tokenizer.bos_token
        return first is None or not text.startswith(first)

    def _seen(self, sample: Sample) -> list[Size]:
        """Width and height of each image as the model sees it. Raises DataError for one it cannot see."""
        sizes = []
        for image in sample.images:
            try:
                sizes.append(image.size if self.reader is None else self.reader.seen(image.size))
            except ValueError as error:
                raise DataError(
                    f"sample {sample.id!r}: image {image.width}×{image.height}: {error}"
                ) from error
        return sizes

    def view(self, sample: Sample) -> View:
        """How the model sees the first image, which is the one that boxes are about."""
        image = sample.images[0]
        return View(image.size, self._seen(sample)[0])

    def to_image(self, sample: Sample) -> Callable[[Box], Box] | None:
        """Takes boxes of the model's answers to pixels of the stored image; None if none are asked for."""
        if sample.answer_type != "boxes" or not sample.images:
            return None
        return partial(convert_box, source=self.box_space, target="image", view=self.view(sample))

    def target(self, sample: Sample, *, reasoning: bool = True) -> str:
        """The text of the gold answer after this prompt, for supervised training.

        reasoning: whether the sample's own stands before it. Raises DataError if that holds special tokens.
        """
        think = sample.reasoning if reasoning else ""
        if token := special_token(think, self._special):
            raise DataError(f"sample {sample.id!r}: the reasoning contains the special token {token}")
        view = self.view(sample) if sample.images else None
        answer = answer_text(sample, self.box_space, view)
        target = self.prompt.completion_target(answer, think)
        return target.removeprefix("<think>") if _opens_think(self.text(sample)) else target

    def supervised_prompt_length(self, sample: Sample, *, context: int, reasoning: bool = True) -> int:
        """As `prompt_length`. Raises DataError if `target` does not fit `context` behind it, or has none."""
        prompt = self.prompt_length(sample)
        target = self.tokenizer(self.target(sample, reasoning=reasoning), add_special_tokens=False)[
            "input_ids"
        ]
        if prompt + len(target) + 1 > context:
            raise DataError(
                f"sample {sample.id!r}: prompt and gold answer have {prompt + len(target) + 1} tokens, the "
                f"model's context {context}"
            )
        return prompt

    def prompt_length(self, sample: Sample) -> int:
        """Tokens of the encoded prompt, from image sizes alone (nothing is decoded or resized)."""
        text, left_out = self.text(sample), 0
        if self.reader is not None:
            self._seen(sample)
            expanded = self.reader.expanded(text, [image.size for image in sample.images])
            text, left_out = self.reader.shortened(expanded)
        return len(self._ids([text])[0]) + left_out

    def image_tokens(self, sample: Sample) -> int:
        """Image tokens of the encoded prompt, from image sizes alone."""
        self._seen(sample)
        return sum(self.reader.image_tokens(image.size) for image in sample.images) if self.reader else 0


def _opens_think(prompt: str) -> bool:
    return prompt.rstrip().endswith("<think>")

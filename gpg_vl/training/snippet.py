"""How a model is asked without this package: the prompt that it was trained with, and a short program."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import question_text
from gpg_vl.types import AnswerType, Sample

_QUESTION = "{question}"
"""What stands for the question in the prompt."""
_EXAMPLES: Mapping[AnswerType, tuple[str, tuple[str, ...]]] = {
    "choice": ("Which of the two is larger?", ("the left one", "the right one")),
    "number": ("How many are there?", ()),
    "math": ("What is half of 3/5?", ()),
    "boxes": ("Where is the dog?", ()),
    "label": ("What kind of flower is this?", ()),
}
"""A question and its choices."""


def prompt_of(encoder: PromptEncoder, like: Sample) -> str:
    """The whole prompt of questions such as `like`, as text, with `{question}` in the question's place."""
    return encoder.text(replace(like, question=_QUESTION, choices=()))


def snippet(encoder: PromptEncoder, like: Sample, *, max_new_tokens: int, stop: Sequence[str]) -> str:
    """A program that asks the model in its folder, greedily, what `like` is an example of."""
    question, choices = _EXAMPLES[like.answer_type]
    images = [f"Image.open({name!r})" for name in _names(len(like.images))]
    text = prompt_of(encoder, like)
    inputs = ["text=[text]", *([f"images=[[{', '.join(images)}]]"] if images else [])]
    inputs += ['return_tensors="pt"', *([] if encoder.adds_special(text) else ["add_special_tokens=False"])]
    if encoder.takes_images:
        model, reader, tokenizer = "AutoModelForImageTextToText", "AutoProcessor", "processor.tokenizer"
    else:
        model, reader, tokenizer = "AutoModelForCausalLM", "AutoTokenizer", "processor"
    answering = [f"**inputs, max_new_tokens={max_new_tokens}, do_sample=False"]
    answering += [f"stop_strings={list(stop)!r}, tokenizer={tokenizer}"] if stop else []
    lines = [
        *(["from PIL import Image"] if images else []),
        f"from transformers import {model}, {reader}",
        "",
        'path = "."  # this folder, or its name on the hub',
        f"prompt = {text!r}",
        f"question = {question_text(replace(like, question=question, choices=choices))!r}",
        f'model = {model}.from_pretrained(path, dtype="auto", device_map="auto")',
        f"processor = {reader}.from_pretrained(path{_limits(encoder)})",
        f"text = prompt.replace({_QUESTION!r}, question)",
        f"inputs = processor({', '.join(inputs)}).to(model.device)",
        f"answer = model.generate({', '.join(answering)})",
        'new = answer[0, inputs["input_ids"].shape[1] :]',
        f"print({tokenizer}.decode(new, skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def _names(count: int) -> list[str]:
    return ["image.jpg"] if count == 1 else [f"image_{number}.jpg" for number in range(1, count + 1)]


def _limits(encoder: PromptEncoder) -> str:
    """Pixels of an image, where the family keeps to limits, as transformers names them."""
    if encoder.reader is None or not encoder.reader.keeps_limits:
        return ""
    return f", size={{'shortest_edge': {encoder.min_pixels}, 'longest_edge': {encoder.max_pixels}}}"

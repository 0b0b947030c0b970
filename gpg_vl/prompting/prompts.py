"""Prompts and answer tags: the one place that training, evaluation and the app all use."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from gpg_vl.errors import ConfigurationError, DataError, unknown
from gpg_vl.prompting.boxes import format_boxes, read_boxes
from gpg_vl.types import AnswerType, Box, Completion, FinishReason, Sample

ANSWER_END = "</answer>"
TemplateName = Literal["instruct", "base", "boxed"]
BoxSpace = Literal["image", "resized", "grid"]
"""`image`: pixels of the stored image; `resized`: pixels of the image as the model sees it; `grid`: 0 to 1000
along each side."""
_SPECIAL = re.compile(r"<\|\w+\|>")

# Both texts are those of the experiments in arXiv 2504.02546.
INSTRUCTION = (
    "Output the thinking process in <think> </think> and final answer ({kind}) in <answer> </answer> tags."
)
BOXED = r"Please reason step by step, and put your final answer within \boxed{}."
"""The sentence of Qwen2.5-Math's model card, which mathematics recipes use."""
BASE = (
    "A conversation between User and Assistant. The user asks a question about the image, and the "
    "Assistant solves it. The assistant first thinks about the reasoning process in the mind and then "
    "provides the user with the answer.\nUser: {question} \n"
    "Assistant: Let me solve this step by step.\n<think>"
)
KIND: dict[AnswerType, str] = {
    "choice": "option",
    "number": "number",
    "math": "number",
    "boxes": "(x1,y1),(x2,y2)",
    "label": "name",
}


@dataclass(frozen=True)
class Prompt:
    """How a sample becomes the model's input; travels with every checkpoint."""

    template: TemplateName = "instruct"
    """`instruct` uses the model's chat template and asks for answer tags, `boxed` uses it and asks for
    \\boxed{}; `base` uses none, and ends inside `<think>`."""
    instruction: str | None = None
    """What follows the question; `{kind}` becomes option, number, … None means the template's own."""
    system: str | None = None
    """The system turn; None leaves it to the chat template."""
    box_space: Literal["family", "image", "resized", "grid"] = "family"
    """Coordinates of boxes in answers; `family` is the convention the model was pretrained with."""

    def __post_init__(self) -> None:
        templates = get_args(TemplateName)
        if self.template not in templates:
            raise ConfigurationError(unknown("prompt.template", str(self.template), templates))
        for name, text in (("instruction", self.instruction), ("system", self.system)):
            if special := _SPECIAL.search(text or ""):
                raise ConfigurationError(f"prompt.{name} contains the special token {special[0]}")
            if self.template == "base" and text is not None:
                raise ConfigurationError(f"prompt.{name} belongs to template 'instruct'; 'base' has none")

    @property
    def opens_think(self) -> bool:
        """Whether the answer starts inside `<think>`."""
        return self.template == "base"

    def user_text(self, sample: Sample) -> str:
        """The text of the user's turn, images excluded. Raises DataError if it holds special tokens."""
        question = question_text(sample)
        if special := _SPECIAL.search(question):
            raise DataError(f"sample {sample.id!r}: the question contains the special token {special[0]}")
        if self.template == "base":
            base = BASE if sample.images else BASE.replace(" about the image", "")
            return base.format(question=question)
        own = BOXED if self.template == "boxed" else INSTRUCTION
        instruction = own if self.instruction is None else self.instruction
        return f"{question} {instruction.replace('{kind}', KIND[sample.answer_type])}".rstrip()

    def messages(self, sample: Sample, *, parts: bool = False) -> list[dict[str, Any]]:
        """Chat messages for the model's chat template, images first.

        `parts`: as lists of parts, as templates of vision-language models want them; else a turn without
        images is plain text, as those of text models do.
        """

        def content(text: str, images: int = 0) -> Any:
            listed = [*[{"type": "image"}] * images, {"type": "text", "text": text}]
            return listed if parts or images else text

        system = [] if self.system is None else [{"role": "system", "content": content(self.system)}]
        user = {"role": "user", "content": content(self.user_text(sample), len(sample.images))}
        return [*system, user]

    def completion_target(self, answer: str, think: str = "") -> str:
        """The text that a supervised answer has after this prompt; boxes as `answer_text` writes them."""
        if self.template == "boxed":
            return f"{think}\n\\boxed{{{answer}}}".lstrip()
        opening = "" if self.opens_think else "<think>"
        return f"{opening}{think}</think><answer>{answer}{ANSWER_END}"

    def boxes_in(self, own: BoxSpace) -> BoxSpace:
        """The space of the answers' boxes for a model that was pretrained with its `own`."""
        return own if self.box_space == "family" else self.box_space

    def to_dict(self) -> dict[str, Any]:
        """For `gpg_vl.json` beside the weights."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Prompt":
        """The prompt a checkpoint was trained with."""
        return cls(**values)


@dataclass(frozen=True)
class View:
    """How a model sees an image: sizes in pixels, (width, height)."""

    stored: tuple[int, int]
    resized: tuple[int, int]

    def scale(self, space: BoxSpace) -> tuple[float, float]:
        """What the image's whole width and height measure in `space`."""
        if space == "grid":
            return 1000.0, 1000.0
        return self.stored if space == "image" else self.resized


def convert_box(box: Box, source: BoxSpace, target: BoxSpace, view: View) -> Box:
    """The same box in another coordinate space; neither rounded nor clipped to the image."""
    (from_x, from_y), (to_x, to_y) = view.scale(source), view.scale(target)
    x, y = to_x / from_x, to_y / from_y
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def special_token(text: str, tokens: Iterable[str]) -> str | None:
    """One of some tokens that stands in a text, if one does."""
    return next((token for token in tokens if token in text), None)


def letter(index: int) -> str:
    """The letter of choice `index`: 0 is "(A)". Raises DataError beyond (Z)."""
    if not 0 <= index < 26:
        raise DataError(f"choices are lettered (A) to (Z); there is none for index {index}")
    return f"({chr(ord('A') + index)})"


def question_text(sample: Sample) -> str:
    """The question and, if there are any, its lettered choices in CV-Bench's wording."""
    if not sample.choices:
        return sample.question
    lines = [f"{letter(i)} {choice}" for i, choice in enumerate(sample.choices)]
    return f"{sample.question} Select from the following choices.\n" + "\n".join(lines)


def answer_text(sample: Sample, space: BoxSpace, view: View | None) -> str:
    """The gold answer as the model should write it: boxes in its own space, whole numbers.

    Raises DataError if a gold answer that should be boxes holds none: the empty answer is no lesson.
    """
    if sample.answer_type != "boxes" or view is None:
        return sample.answer
    boxes = read_boxes(sample.answer)
    if not boxes:
        raise DataError(
            f"sample {sample.id!r}: no boxes in the gold answer {sample.answer!r}; write a JSON list of "
            "[x1, y1, x2, y2] in pixels"
        )
    return format_boxes([convert_box(box, "image", space, view) for box in boxes])


_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def answer_part(text: str, *, think_opened: bool) -> str:
    """What stands behind the reasoning: all of `text` if it holds none, nothing if it was never closed."""
    _, closed, behind = text.rpartition("</think>")
    still_open = "<think>" in behind or (think_opened and not closed)
    return "" if still_open else behind


_BOX = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:boxed|fbox))(?![a-zA-Z])\s*(?:\{|([^\s$]+))")
_COMMAND = re.compile(r"\\[a-zA-Z]+\Z")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def boxed(text: str) -> list[str]:
    r"""What stands in each outermost `\boxed{…}` or `\fbox{…}`, inner braces and all, in the text's order.

    `\boxed 5` is read too: MATH has it. A box that never closes is left out.
    """
    return [inner for _, _, inner in _boxes(text)]


def unboxed(text: str) -> str:
    r"""The text with what is in its boxes in their place: `x = \boxed{5}.` becomes `x = 5.`"""
    while found := list(_boxes(text)):  # MATH has boxes in boxes
        for start, end, inner in reversed(found):
            before = text[:start]
            apart = " " if inner[:1].isalpha() and _COMMAND.search(before) else ""  # \cdot\boxed{n}
            text = before + apart + inner + text[end:]
    return text


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of each outermost box."""
    position = 0
    while box := _BOX.search(text, position):
        closing = box.end() if box[2] else _closing(text, box.end())
        if closing is None:
            return
        position = closing if box[2] else closing + 1
        yield box.start(1), position, box[2] or text[box.end() : closing].strip()


def _closing(text: str, start: int) -> int | None:
    """Where the brace that opened before `start` closes; an escaped one counts for nothing."""
    depth = 1
    for token in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if not depth:
            return token.start()
    return None


_HERE = r"(?:your |the )?(?:final )?answer(?: here)?"
_BLANK = re.compile(
    r"(?:\\(?:phantom|hspace)\s*\{.*\}|\\(?:square|Box|ldots|cdots|dots|quad|text\s*\{\s*\}|[,;! ])|[\s.…_?□]"
    rf"|\\text\s*\{{\s*{_HERE}\s*\}}|{_HERE})*",
    re.IGNORECASE | re.DOTALL,
)


def formulas(completion: Completion, question: str = "") -> list[str]:
    r"""The formulas given as the answer to a question of mathematics, each once; empty if there is none.

    They stand in `\boxed{…}`, else are the whole of `<answer>…</answer>`. Only `<answer>` is looked at where
    the text has such a tag, else only what follows the reasoning. Boxes that are blank (`\boxed{}`,
    `\boxed{\text{answer}}`) or stand in the `question` too are quoted, and no answer.
    """
    if "<answer>" in completion.text or ANSWER_END in completion.text:
        answer = completion.answer
        return [] if answer is None else _given(answer, question) or [answer]
    behind = answer_part(completion.text, think_opened=completion.think_opened)
    return _given(behind, question)


def _given(text: str, question: str) -> list[str]:
    """What is boxed in `text`, but for blanks and what is quoted from `question`."""
    quoted = set(boxed(question))
    return [box for box in dict.fromkeys(boxed(text)) if box not in quoted and not _BLANK.fullmatch(box)]


def parse_completion(
    text: str,
    *,
    think_opened: bool,
    token_count: int,
    finish_reason: FinishReason,
    token_ids: Sequence[int] = (),
    logprobs: Sequence[float] = (),
    to_image: Callable[[Box], Box] | None = None,
) -> Completion:
    """Split a generated text at its tags.

    `answer` is None unless exactly one `<answer>…</answer>` pair stands in the text, and that one behind
    the reasoning: a model that lists several answers, or only considers one, has given none. `to_image`
    takes the answer's boxes to pixels of the stored image; None where no boxes are asked for.
    """
    single = text.count("<answer>") == 1 and text.count(ANSWER_END) == 1
    behind = answer_part(text, think_opened=think_opened)
    match = _ANSWER.search(behind) if single else None  # many opening tags would cost quadratic time
    answer = match[1].strip() if match else None
    head, closed, _ = text.partition("</think>")
    boxes = read_boxes(answer) if answer and to_image else ()
    return Completion(
        text=text,
        answer=answer,
        think=head.strip().removeprefix("<think>").strip() if closed else None,
        token_count=token_count,
        finish_reason=finish_reason,
        think_opened=think_opened,
        boxes=tuple(to_image(box) for box in boxes) if to_image else (),
        token_ids=tuple(token_ids),
        logprobs=tuple(logprobs),
    )

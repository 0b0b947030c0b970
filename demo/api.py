"""The endpoint `/compare` for programs: plain arguments, one plain result."""

from collections.abc import Generator
from typing import Any

import gradio as gr

from gpg_vl.types import Completion

from .parts.controls import answer_fields
from .reading import last_of, while_read
from .service.asking import TYPED, Asking, Fields, Outcome, Pane
from .service.settings import DemoSettings
from .service.verdicts import Verdict, vote
from .wiring import QUEUED, client_of, page, readable_errors


def add_endpoint(asking: Asking) -> None:
    """Announce `/compare`; its components only name and check the arguments, and are not shown."""

    def compare(
        request: gr.Request,
        question: Any,
        image: Any,
        choices: Any,
        answer_type: Any,
        gold: Any,
        samples: Any,
        temperature: Any,
        max_new_tokens: Any,
        seed: Any,
    ) -> Generator[Outcome, None, None]:
        """Ask both models one question.

        choices: one a line; gold: the right answer, empty if nobody knows it; temperature 0 is greedy.
        Returns each model's answers with text, parsed answer, tokens, verdict and rewards, and the vote.
        """
        fields = Fields(
            image, question, choices, answer_type, gold, samples, temperature, max_new_tokens, seed
        )
        with readable_errors(asking.settings.roots):
            yield from asking.outcomes(fields, None, client_of(request))

    with gr.Column(visible=False):
        inputs = _arguments(asking.settings)
        result = gr.JSON(label="result")
        trigger = gr.Button()
    answered = last_of(while_read(page(), compare), as_plain)
    trigger.click(answered, inputs, result, api_name="compare", **QUEUED)


def _arguments(settings: DemoSettings) -> list[Any]:
    image = gr.Image(type="filepath", format="png", label="image")
    question = gr.Textbox(label="question")
    choices = gr.Textbox("", label="choices")
    kind, gold = answer_fields(TYPED)
    samples = gr.Number(1, label="samples", precision=0)
    temperature = gr.Number(0.0, label="temperature")
    length = gr.Number(min(256, settings.max_new_tokens), label="max_new_tokens", precision=0)
    seed = gr.Number(0, label="seed", precision=0)
    return [question, image, choices, kind, gold, samples, temperature, length, seed]


def as_plain(outcome: Outcome) -> dict[str, Any]:
    """Both models' parts of an outcome, by `base` and `trained`."""
    return {kind: _model(pane) for kind, pane in outcome.panes.items()}


def _model(pane: Pane) -> dict[str, Any]:
    progress = pane.progress
    completions = progress.answered.completions if progress.answered else ()
    answers = [_answer(*pair) for pair in zip(completions, pane.verdicts, strict=True)]
    winner = vote(pane.verdicts) if pane.verdicts else None
    return {
        "state": progress.state,
        "error": progress.error or None,
        "seconds": round(progress.seconds, 3),
        "prompt": progress.prompt,
        "answers": answers,
        "vote": vars(winner) if winner else None,
    }


def _answer(completion: Completion, verdict: Verdict) -> dict[str, Any]:
    return {
        "text": completion.text,
        "answer": verdict.answer,
        "tokens": completion.token_count,
        "finish_reason": completion.finish_reason,
        "boxes": [list(box) for box in completion.boxes],
        "right": verdict.right,
        "rewards": dict(verdict.rewards),
        "problem": verdict.problem or None,
        "says": verdict.says,
    }

"""Questions in, parsed completions out: what training, evaluation and the app share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.frontend import Frontend
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt, PromptEncoder, Question
from gpg_vl.prompting.prompts import Prompt, parse_completion
from gpg_vl.rollout.engine import Answer, Engine, Request, Watch
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Completion, Sample


@dataclass(frozen=True)
class Answered:
    """One question with its sampled answers."""

    sample: Sample
    prompt: EncodedPrompt
    answers: tuple[Answer, ...]
    completions: tuple[Completion, ...]

    @property
    def finite(self) -> bool:
        """Whether the model gave its tokens probabilities that are numbers."""
        return all(isfinite(logprob) for answer in self.answers for logprob in answer.logprobs)

    def check_finite(self) -> None:
        """Raise ModelError unless they are: such answers say nothing of the question."""
        if not self.finite:
            raise ModelError(
                f"sample {self.sample.id!r}: the model's log-probabilities are not finite: its weights are "
                "damaged or have diverged, or model.precision is too low for them"
            )


@dataclass(frozen=True)
class Answerer:
    """An engine with the encoder of its prompts."""

    encoder: PromptEncoder
    engine: Engine

    def answer(
        self,
        samples: Sequence[Sample],
        group_size: int,
        sampling: Sampling,
        *,
        step: int = 0,
        watch: Watch = lambda _: None,
    ) -> list[Answered]:
        """Encode questions and answer each `group_size` times, as `sample` does; ids are the samples' own.

        Raises ModelError for log-probabilities that are not finite.
        """
        questions = self.encoder.questions(samples)
        ids = [sample.id for sample in samples]
        answered = self.sample(questions, group_size, sampling, step=step, ids=ids, watch=watch)
        for one in answered:
            one.check_finite()
        return answered

    def sample(
        self,
        questions: Sequence[Question],
        group_size: int,
        sampling: Sampling,
        *,
        step: int,
        ids: Sequence[str],
        watch: Watch = lambda _: None,
        done: Callable[[int, Answered], None] = lambda _, __: None,
    ) -> list[Answered]:
        """Answer each question `group_size` times.

        `step` and the ids, which tell duplicates of one question apart, seed the answers' random streams.
        `watch` follows the answers as `Engine.generate` says; `done` gets a question's place and
        answers once the last of them is complete.
        """
        requests = [
            Request(one.prompt, name, step, partial(self.encoder.unexpanded, one.sample))
            for one, name in zip(questions, ids, strict=True)
        ]
        answered: dict[int, Answered] = {}

        def parse(place: int, group: Sequence[Answer]) -> None:
            sample, prompt = questions[place].sample, questions[place].prompt
            completions = tuple(self._parse(sample, prompt, answer) for answer in group)
            answered[place] = Answered(sample, prompt, tuple(group), completions)
            done(place, answered[place])

        self.engine.generate(requests, group_size, sampling, watch=watch, done=parse)
        return [answered[place] for place in range(len(questions))]

    def _parse(self, sample: Sample, prompt: EncodedPrompt, answer: Answer) -> Completion:
        return parse_completion(
            answer.text,
            think_opened=prompt.opens_think,
            token_count=len(answer.token_ids),
            finish_reason=answer.finish_reason,
            token_ids=answer.token_ids,
            logprobs=answer.logprobs,
            to_image=self.encoder.to_image(sample),
        )


def check_room(context: int, prompt_tokens: int, answer_tokens: int, option: str) -> None:
    """Raise ConfigurationError if the longest prompt and an answer of `option` are more than the context."""
    if prompt_tokens + answer_tokens > context:
        raise ConfigurationError(
            f"{option} {answer_tokens} does not fit the model's context of {context} tokens behind the "
            f"longest prompt, which has {prompt_tokens}: at most {max(0, context - prompt_tokens)} do"
        )


def build_encoder(model_of: Policy | Frontend, prompt: Prompt, model: ModelConfig) -> PromptEncoder:
    """The encoder of a model's prompts."""
    return PromptEncoder(
        model_of.processor,
        prompt,
        family=model_of.family,
        **model.pixels,
    )

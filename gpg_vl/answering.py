"""Questions in, parsed completions out: what training, evaluation and the app share."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpg_vl.encode import EncodedPrompt, PromptEncoder
from gpg_vl.prompts import parse_completion
from gpg_vl.rollout import Answer, Request, RolloutEngine, Watch
from gpg_vl.sampling import Sampling
from gpg_vl.types import Completion, Sample


@dataclass(frozen=True)
class Answered:
    """One question with its sampled answers."""

    sample: Sample
    prompt: EncodedPrompt
    answers: tuple[Answer, ...]
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Answerer:
    """A rollout engine with the encoder of its prompts."""

    encoder: PromptEncoder
    engine: RolloutEngine

    def answer(
        self,
        samples: Sequence[Sample],
        group_size: int,
        sampling: Sampling,
        *,
        step: int = 0,
        ids: Sequence[str] = (),
        watch: Watch = lambda _: None,
    ) -> list[Answered]:
        """Answer each question `group_size` times.

        `step` and the ids seed the answers' random streams; `ids` (default: the samples' own) tell
        duplicates of one question apart. `watch` follows the answers as `RolloutEngine.generate` says.
        """
        prompts = self.encoder.encode(samples)
        names = ids or [sample.id for sample in samples]
        requests = [Request(prompt, name, step) for prompt, name in zip(prompts, names, strict=True)]
        groups = self.engine.generate(requests, group_size, sampling, watch=watch)
        return [
            Answered(
                sample, prompt, tuple(group), tuple(self._parse(sample, prompt, answer) for answer in group)
            )
            for sample, prompt, group in zip(samples, prompts, groups, strict=True)
        ]

    def _parse(self, sample: Sample, prompt: EncodedPrompt, answer: Answer) -> Completion:
        return parse_completion(
            answer.text,
            think_opened=prompt.opens_think,
            token_count=len(answer.token_ids),
            finish_reason=answer.finish_reason,
            token_ids=answer.token_ids,
            to_image=self.encoder.to_image(sample),
        )

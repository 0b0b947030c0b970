"""What answers are worth: right or wrong, rewards by name, and the vote among several. No torch here."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpg_vl.evaluation.benchmarks import Benchmark
from gpg_vl.evaluation.grading import grade_answers, parsed_answer
from gpg_vl.runs.files import is_right
from gpg_vl.scoring.pixels import without_pixels
from gpg_vl.scoring.weighted import weighted
from gpg_vl.types import Completion, Sample

from .gold import gold_problem
from .rewards import Rewards, loaded_scorer, look_at_images
from .same_answers import clear_answers


@dataclass(frozen=True)
class Question:
    """Answers to one question, as the process that judges them gets them."""

    sample: Sample
    completions: tuple[Completion, ...]
    benchmark: Benchmark
    """Its grader says what is right, and which answers are the same."""


@dataclass(frozen=True)
class Verdict:
    """What one answer is worth."""

    answer: str | None
    """The parsed final answer; None if there is none."""
    right: bool | None = None
    """None without a gold answer, or where it could not be graded."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Unweighted scores by the reward's name."""
    problem: str = ""
    """Why something could not be scored."""
    says: str | None = None
    """The answer in its clearest words, the same for all that the grader holds equal; None if unknown."""

    @property
    def said(self) -> str | None:
        """What a vote counts."""
        return self.says or self.answer


@dataclass(frozen=True)
class Vote:
    """The answer that most of several gave."""

    answer: str | None
    """In its clearest words, such as "(B) left"."""
    count: int
    right: bool | None


@dataclass(frozen=True)
class Step:
    """A part of judging, which may fail or last too long without harm to the others."""

    what: str
    """What it finds, in words."""
    work: Callable[[Question, Sequence[Verdict]], list[Verdict]]
    """Takes the verdicts so far; a worker process calls it."""
    images: bool = False
    """Whether it reads pixels: they are sent to no other step."""

    def needs(self, question: Question) -> Question:
        """What is sent of a question."""
        return question if self.images else replace(question, sample=without_pixels(question.sample))


def vote(verdicts: Sequence[Verdict]) -> Vote:
    """The commonest answer, the first one of several as common; answers without one vote for none.

    Spellings of one answer are one: see `Verdict.says`.
    """
    answer, count = Counter(verdict.said for verdict in verdicts).most_common(1)[0]
    right = next(verdict.right for verdict in verdicts if verdict.said == answer)
    return Vote(answer, count, right)


def unjudged(question: Question) -> list[Verdict]:
    """What the answers are, and nothing of their worth."""
    sample, benchmark = question.sample, question.benchmark
    return [Verdict(parsed_answer(sample, one, benchmark)[0]) for one in question.completions]


def with_problem(verdicts: Sequence[Verdict], problem: str) -> list[Verdict]:
    """The verdicts with one more reason why something could not be scored."""
    return [replace(one, problem=f"{one.problem}; {problem}" if one.problem else problem) for one in verdicts]


def steps(question: Question, rewards: Rewards) -> list[Step]:
    """How answers are judged, the cheapest first; without a gold answer only what needs none."""
    found = [Step("which answers are the same", say_clearly)]
    if question.sample.answer:
        found.append(Step("right or wrong", grade))
        if rewards.trained is not None or rewards.problem:
            images = look_at_images(rewards.trained or {})
            found.append(Step("the rewards of the training run", Trained(rewards), images))
    return [
        *found,
        *(
            Step(f"reward {title}", Own(title, name), look_at_images({name: 1.0}))
            for title, name in rewards.own.items()
        ),
    ]


def say_clearly(question: Question, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """With `says`: which answers are the same."""
    words = clear_answers(question.sample, question.completions, question.benchmark)
    return [replace(one, says=said) for one, said in zip(verdicts, words, strict=True)]


def grade(question: Question, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """With right or wrong, the benchmark's scores, and what is wrong with the gold answer itself."""
    pairs = [(question.sample, completion) for completion in question.completions]
    graded = [
        replace(one, right=is_right(item) if item["graded"] else None, rewards=_known(item["scores"]))
        for one, item in zip(verdicts, grade_answers(pairs, question.benchmark), strict=True)
    ]
    problem = gold_problem(question.sample)
    return with_problem(graded, problem) if problem else graded


@dataclass(frozen=True)
class Trained:
    """The scores of the rewards that the model was trained with, in place of the benchmark's."""

    rewards: Rewards

    def __call__(self, question: Question, verdicts: Sequence[Verdict]) -> list[Verdict]:
        if self.rewards.trained is None:
            return with_problem(verdicts, self.rewards.problem)
        scores = _scores(self.rewards.trained, question)
        return [replace(one, rewards=own) for one, own in zip(verdicts, scores, strict=True)]


@dataclass(frozen=True)
class Own:
    """The scores of a reward of the command line, beside the others."""

    title: str
    name: str

    def __call__(self, question: Question, verdicts: Sequence[Verdict]) -> list[Verdict]:
        scorer = loaded_scorer({self.name: 1.0})
        if not question.sample.answer and weighted(self.name, 1.0).reward.kind == "correctness":
            return list(verdicts)  # it compares with the gold answer, and there is none
        scores = scorer.score(question.sample, question.completions).by_reward.get(self.name)
        if scores is None:
            return with_problem(verdicts, f"reward {self.title} cannot grade every answer")
        return [
            replace(one, rewards={**one.rewards, self.title: score})
            for one, score in zip(verdicts, scores, strict=True)
        ]


def _scores(table: Mapping[str, Any], question: Question) -> list[dict[str, float]]:
    """Each answer's scores by the rewards of a table that could grade all of them, as in training."""
    scored = loaded_scorer(table).score(question.sample, question.completions)
    places = range(len(question.completions))
    return [{name: scores[place] for name, scores in scored.by_reward.items()} for place in places]


def _known(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if score is not None}

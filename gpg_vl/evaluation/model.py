"""A loaded model that can be asked: with the prompt, the image sizes and the stop texts of its checkpoint."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, get_args, overload

import torch
from PIL import Image

from gpg_vl.config import ModelConfig, RolloutConfig
from gpg_vl.data.gold_answers import as_text, gold_answer
from gpg_vl.data.images import open_image, store
from gpg_vl.errors import ConfigurationError, DataError, ModelError, unknown
from gpg_vl.evaluation.benchmarks import PREPARED, Benchmark
from gpg_vl.evaluation.settings import chosen_filters
from gpg_vl.model.frontend import Frontend, read_frontend
from gpg_vl.model.loading import load_policy
from gpg_vl.prompting.card import PIXELS, read_card
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import BoxSpace, Prompt, TemplateName
from gpg_vl.prompting.transcripts import read_transcript
from gpg_vl.rollout.answering import Answerer, build_encoder, check_room
from gpg_vl.rollout.engine import Engine
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.vllm.asking import Asking
from gpg_vl.rollout.vllm.server import ServerEngine
from gpg_vl.rollout_config import ServerConfig
from gpg_vl.types import AnswerType, Completion, Sample

MAX_CONCURRENT = 64
"""Answers decoded at the same time, where nobody says how many."""
Picture = str | Path | bytes | Image.Image
"""An image: a file's path, its bytes, or Pillow's."""


@dataclass(frozen=True)
class Answers(Sequence[Completion]):
    """A question and a model's answers to it, in the order in which they were sampled."""

    sample: Sample
    """The question, with its gold answer where one was given."""
    completions: tuple[Completion, ...]

    @classmethod
    def read(
        cls,
        texts: Sequence[str],
        *,
        question: str = "",
        answer: Any = "",
        answer_type: AnswerType | None = None,
        choices: Sequence[str] = (),
        image: "Picture | Sequence[Picture] | None" = None,
        box_space: BoxSpace = "image",
    ) -> "Answers":
        """Texts that came from elsewhere, as answers to one question; see `Model.ask`.

        box_space: in which coordinates the texts have boxes: pixels of the image, or "grid", 0 to 1000.
        """
        sample = _sample(question, answer, answer_type, choices, image)
        return cls(sample, tuple(read_transcript(text, sample, space=box_space) for text in texts))

    def __len__(self) -> int:
        return len(self.completions)

    @overload
    def __getitem__(self, index: int) -> Completion: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Completion]: ...
    def __getitem__(self, index: int | slice) -> Completion | Sequence[Completion]:
        return self.completions[index]

    def __iter__(self) -> Iterator[Completion]:
        return iter(self.completions)


@dataclass(frozen=True)
class Model:
    """A loaded model with what its checkpoint says of how it is to be asked."""

    path: str
    """Folder or hub id."""
    frontend: Frontend
    card: Mapping[str, Any]
    """Its gpg_vl.json; empty for a model that this package has not trained."""
    engine: Engine

    def __repr__(self) -> str:
        return f"Model({self.path!r})"  # a processor's own repr fills pages

    def answerer(self, benchmark: Benchmark = PREPARED, template: TemplateName | None = None) -> Answerer:
        """Asks with the checkpoint's own prompt, else with the benchmark's; `template` overrides either."""
        prompt = choose_prompt(self.card, benchmark, template)
        return Answerer(own_encoder(self.frontend, self.card, prompt), self.engine)

    @property
    def prompt(self) -> Prompt:
        """How questions become its input."""
        return choose_prompt(self.card, PREPARED, None)

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return own_stop(self.card)

    def seeded(self, seed: int, max_concurrent: int) -> Engine:
        """An engine of its own on these weights; vLLM's, elsewhere, is the one there is."""
        if isinstance(self.engine, OwnEngine):
            return OwnEngine(self.engine.policy, max_concurrent=max_concurrent, seed=seed)
        return self.engine

    def ask(
        self,
        image: Picture | Sequence[Picture] | None,
        question: str,
        *,
        choices: Sequence[str] = (),
        answer: Any = "",
        answer_type: AnswerType | None = None,
        samples: int = 1,
        temperature: float | None = None,
        top_p: float | None = None,
        max_new_tokens: int = 512,
        seed: int = 0,
    ) -> Answers:
        """Answer one question `samples` times.

        image: one, several, or None for a question about none; in training's form: upright, 8 bits. answer:
        the gold answer, which rewards want, as rows have it: text, a number, a list; of choices a letter or
        the text. answer_type: what the prompt
        asks for; None is choice where there are choices, else label. temperature, top_p: 0 is greedy; None
        is greedy for one answer, 0.6 and 0.95 for several. seed: of sampled answers, which are the same for
        the same seed and question. Raises DataError for an image that cannot be read, ConfigurationError
        for a value out of range, and where prompt and answer exceed the model's context.
        """
        sample = _sample(question, answer, answer_type, choices, image)
        options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
        return self.ask_all([sample], samples=samples, seed=seed, **options)[0]  # type: ignore[arg-type]

    def ask_all(
        self,
        questions: Iterable[Sample],
        *,
        samples: int = 1,
        temperature: float | None = None,
        top_p: float | None = None,
        max_new_tokens: int = 512,
        seed: int = 0,
    ) -> list[Answers]:
        """Answer many questions, side by side; see `ask`. `gpg_vl.read` gives those of a data set."""
        questions = list(questions)
        if others := [one for one in questions if not isinstance(one, Sample)]:
            raise DataError(f"a question is a Sample, such as gpg_vl.read(folder)[0], got {others[0]!r:.80}")
        if not isinstance(samples, Integral) or samples < 1:
            raise ConfigurationError(f"samples is a whole number from 1, got {samples!r}")
        answerer = self.answerer()
        longest = max((answerer.encoder.prompt_length(one) for one in questions), default=0)
        check_room(self.frontend.context, longest, max_new_tokens, "max_new_tokens")
        sampling = Sampling(max_new_tokens, *chosen_filters(samples, temperature, top_p), stop=self.stop)
        answered = answerer.answer(questions, samples, sampling, step=seed)
        return [Answers(one.sample, one.completions) for one in answered]


def load(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    server: str | None = None,
    max_concurrent: int = MAX_CONCURRENT,
) -> Model:
    """Load a model folder or hub id, with its prompt where it is a checkpoint of this package.

    device: such as "cuda:1"; None is a GPU where there is one. server: address of a vLLM server that has the
    model, which is then not loaded here. max_concurrent: answers decoded at the same time. Raises ModelError
    for what is no model or too large, EngineError for a server without it.
    """
    name = str(path)
    card = read_card(name) or {}
    if server is not None:
        return _served(name, card, server, max_concurrent)
    try:
        policy = load_policy(name, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:  # too little memory, on either device
        raise ModelError(f"{name!r} cannot be loaded: {error}") from error
    policy.eval()  # for good: threads may ask it, and the engine puts back what it found
    return Model(name, Frontend.of(policy), card, OwnEngine(policy, max_concurrent=max_concurrent))


def _served(path: str, card: Mapping[str, Any], url: str, max_concurrent: int) -> Model:
    frontend = read_frontend(path)
    server = ServerConfig(url, patience=0.0)
    engine = ServerEngine(server, Asking(frontend, 0), max_concurrent=max_concurrent, model=path)
    return Model(path, frontend, card, engine)


def own_encoder(frontend: Frontend, card: Mapping[str, Any], prompt: Prompt) -> PromptEncoder:
    """The encoder of a model's prompts, with the image sizes that its checkpoint was trained with."""
    limits = {name: card[name] for name in PIXELS if name in card}
    return build_encoder(frontend, prompt, ModelConfig(**limits))


def own_stop(card: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts that end an answer: the checkpoint's own, else those of training."""
    return tuple(card.get("stop", RolloutConfig().stop))


def choose_prompt(card: Mapping[str, Any], benchmark: Benchmark, template: TemplateName | None) -> Prompt:
    """The checkpoint's own prompt, else the benchmark's; `template` overrides either."""
    own = Prompt.from_dict(card["prompt"]) if "prompt" in card else benchmark.prompt
    if template is None or template == own.template:
        return own
    if template == benchmark.prompt.template:
        return benchmark.prompt
    return Prompt(template, box_space=own.box_space)


def _sample(
    question: str,
    answer: Any,
    answer_type: AnswerType | None,
    choices: Sequence[str],
    image: Picture | Sequence[Picture] | None,
) -> Sample:
    kind: AnswerType = answer_type or ("choice" if choices else "label")
    if kind not in get_args(AnswerType):
        raise ConfigurationError(unknown("answer_type", str(kind), get_args(AnswerType)))
    if not isinstance(question, str) or isinstance(choices, str):
        raise ConfigurationError(
            f"a question is text and its choices a list of texts, got {question!r:.80} and {choices!r:.80}"
        )
    options = tuple(map(as_text, choices))
    gold, others = ("", []) if answer == "" else gold_answer(answer, kind, options, "the answer")
    meta = {"alternatives": others} if others else {}
    return Sample(question, "asked", question, gold, kind, options, _pictures(image), meta)


def _pictures(image: Picture | Sequence[Picture] | None) -> tuple[Image.Image, ...]:
    listed = [] if image is None else [image] if isinstance(image, Picture) else image
    if not isinstance(listed, Sequence) or not all(isinstance(one, Picture) for one in listed):
        raise DataError(
            f"an image is a path, a file's bytes or Pillow's, got {type(image).__name__}; "
            "PIL.Image.fromarray makes one of an array"
        )
    return tuple(_stored(one, f"image {number}") for number, one in enumerate(listed))


def _stored(picture: Picture, where: str) -> Image.Image:
    """As a prepared data set would hold it. Raises RowError."""
    source = Path(picture) if isinstance(picture, str) else picture
    opened = source if isinstance(source, Image.Image) else open_image(source, where)
    return open_image(store(opened, where).data, where)

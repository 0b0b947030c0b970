"""`benchmarks.rollout`: what it asks, and what it says of engines; the policy's own stands for vLLM here."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from benchmarks import rollout
from benchmarks.rollout_rate import Cell, Rates, cells, checks, gap, made_up, never_end, table
from gpg_vl.rollout.engine import Request, Synced
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of

MEASURED = {
    "G": 4,
    "prompt tokens": 96.5,
    "answer tokens": 16,
    "answers": 32,
    "seconds": {"own": 0.25, "vLLM": 0.5},
    "sync seconds": {"own": 0.0, "vLLM": 0.125},
    "gap": {"own": {"mean": 1e-7, "max": 2e-7}, "vLLM": {"mean": 3e-3, "max": 4e-2}},
}


class Watched(OwnEngine):
    """Says in which order its methods are called."""

    def __init__(self, *given, **options) -> None:
        super().__init__(*given, **options)
        self.called: list[str] = []

    def sync(self, version: int) -> Synced:
        self.called.append(f"sync {version}")
        return super().sync(version)

    def generate(self, requests, group_size, *given, **options):
        self.called.append(f"{len(requests)} x {group_size}")
        return super().generate(requests, group_size, *given, **options)

    def rest(self) -> None:
        self.called.append("rest")


@pytest.fixture
def question(policy) -> Callable[[int], Sample]:
    return partial(made_up, policy.tokenizer, 16, 56)


def test_cells_are_all_combinations():
    assert cells([1, 4], ["16", "512"], [8]) == [
        Cell(1, "16", 8),
        Cell(4, "16", 8),
        Cell(1, "512", 8),
        Cell(4, "512", 8),
    ]


@pytest.mark.parametrize("tokens", [16, 300])
def test_made_up_questions_have_their_length(policy, tokens):
    ask = partial(made_up, policy.tokenizer, tokens, 56)
    length = len(policy.tokenizer(ask(3).question)["input_ids"])
    assert tokens <= length < tokens + 20  # a word is so many bytes
    assert ask(3).question != ask(4).question
    assert ask(3).images[0].size == (56, 56)
    assert ask(3).images[0].tobytes() != ask(4).images[0].tobytes()
    assert made_up(policy.tokenizer, tokens, 0, 3).images == ()


def test_engines_take_turns_with_new_weights_and_questions(policy, question):
    asked: list[int] = []

    def source(number: int) -> Sample:
        asked.append(number)
        return question(number)

    never_end(policy)
    assert set(policy.eos_token_ids) <= set(policy.suppressed_ids.tolist())
    engines = {name: Watched(policy, max_concurrent=4) for name in ("own", "vLLM")}
    rates = Rates(policy, encoder_of(policy), engines, {"16": source}, rows=4, repeats=1)
    found = rates.measure(Cell(2, "16", 5))
    assert engines["own"].called == ["sync 1", "2 x 2", "rest", "sync 3", "2 x 2", "rest"]
    assert engines["vLLM"].called == ["sync 2", "2 x 2", "rest", "sync 4", "2 x 2", "rest"]
    assert asked == [0, 1, 2, 3]
    assert (found["G"], found["answers"], found["answer tokens"]) == (2, 4, 5)
    assert min(found["seconds"].values()) > 0
    assert max(one["max"] for one in found["gap"].values()) < 1e-5
    assert rates.greedy("16", 5) == {"prompts": "16", "answer tokens": 5, "equal": 4, "of": 4}
    assert asked[4:] == [4, 5, 6, 7]


def test_answers_that_end_early_are_no_measurement(policy, question):
    policy.suppress(set(range(policy.vocabulary)) - set(policy.eos_token_ids))
    engines = {"own": OwnEngine(policy, max_concurrent=2)}
    rates = Rates(policy, encoder_of(policy), engines, {"16": question}, rows=2, repeats=1)
    with pytest.raises(AssertionError, match="own: 2 answers ended early"):
        rates.measure(Cell(2, "16", 5))


def test_the_gap_is_the_distance_in_nats(policy, question):
    [prompt] = encoder_of(policy).encode([question(0)])
    [answers] = OwnEngine(policy, max_concurrent=2).generate([Request(prompt, "0")], 2, Sampling(4))
    off = [replace(answer, logprobs=tuple(x - 0.5 for x in answer.logprobs)) for answer in answers[1:]]
    found = gap(policy, prompt, [answers[0], *off])
    tokens = [len(answer.token_ids) for answer in answers]
    assert found["max"] == pytest.approx(0.5, abs=1e-5)
    assert found["mean"] == pytest.approx(0.5 * tokens[1] / sum(tokens), abs=1e-5)


def test_the_table_has_rates_and_their_ratio():
    line = table("m", "server", [MEASURED]).splitlines()[-1]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == ["m", "server", "4", "96", "16", "0.25", "0.5", "2,048", "1,024", "2.00"]


def test_the_checks_are_the_worst_ones():
    better = {**MEASURED, "gap": {name: {"mean": 0.0, "max": 0.0} for name in ("own", "vLLM")}}
    greedy = [{"equal": 4, "of": 4}, {"equal": 3, "of": 4}]
    text = checks([MEASURED, better], greedy)
    assert "own 1.0e-07 (2.0e-07), vLLM 3.0e-03 (4.0e-02)" in text
    assert "7 of 8" in text
    assert "0.125 s" in text


def test_without_vllm_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rollout", "--made", "tiny"])
    monkeypatch.setattr(rollout, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^vLLM is not installed here: .*docs/rollout_engines\.md\)$"):
        rollout.main()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--groups", "3"], "--rows 32 is no multiple of each of --groups"),
        (["--answers", "0,4"], "0,4 is no list of positive numbers"),
        (["--engine", "server"], "--engine server and --url belong together"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["rollout", "--made", "tiny", *words])
    with pytest.raises(SystemExit, match="2"):
        rollout.main()
    assert said in capsys.readouterr().err

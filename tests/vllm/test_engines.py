"""vLLM's answers are the policy's own: in process, on a server, and on one of two processes."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import pytest

import gpg_vl.training.learner as learner_module
from gpg_vl.errors import EngineError
from gpg_vl.rollout.answering import Answered
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout_config import ServerConfig
from gpg_vl.training.session import Session
from gpg_vl.types import Sample
from tests.support.server_engines import own, tokens
from tests.support.training import session_of
from tests.support.vllm_engines import FAMILIES, REAL, config_of, differences, move, questions_of
from tests.vllm.conftest import SERVERS

pytestmark = REAL
GREEDY = Sampling(24, temperature=0.0)
SAMPLED = Sampling(24, temperature=1.2)
NEAR = 1e-5
"""Nats that no token's log-probability may be off by."""


@pytest.fixture(scope="session", params=[*FAMILIES, *SERVERS])
def session(request, in_process: Callable[[str], Session]) -> Iterator[Session]:
    """A policy that vLLM answers for, which has its weights."""
    if request.param in FAMILIES:
        found = in_process(request.param)
        found.answerer.engine.sync(0)
        yield found
        return
    served = request.getfixturevalue(request.param)
    family, _ = SERVERS[request.param]
    model, data = (request.getfixturevalue(name)(family) for name in ("model_of", "data_of"))
    rollout = {"engine": "server", "server": ServerConfig(url=[served.url()])}
    found = session_of(config_of(model, data, model.parent / request.param, rollout))
    with closing(found.answerer.engine):
        found.answerer.engine.sync(0)
        yield found


@pytest.fixture
def asked(session: Session, questions: list[Sample]) -> list[Sample]:
    return questions_of(session.learner.policy.model.config.model_type, questions)


def gap(session: Session, asked: list[Sample], sampling: Sampling = SAMPLED) -> float:
    """Of the token that is off most."""
    answered = session.answerer.answer(asked, 4, sampling)
    return float(differences(session.learner.policy, answered, sampling.temperature or 1.0).max())


def bring(session: Session) -> None:
    engine = session.answerer.engine
    engine.sync(engine.version + 1)


def test_greedy_answers_are_those_of_the_policy_itself(session, asked):
    """They end by their length, and some by a letter that is in one of them, and in no special token."""
    policy = session.learner.policy
    free = own(policy).answer(asked, 1, GREEDY)
    letters = "".join(one.answers[0].text[3:] for one in free)
    special = "".join(policy.tokenizer.all_special_tokens)
    stop = next(
        letter for letter in letters if letter.isascii() and letter.isalnum() and letter not in special
    )
    reasons = set()
    for sampling in (GREEDY, replace(GREEDY, stop=(stop,))):
        answered = session.answerer.answer(asked, 2, sampling)
        for one, expected in zip(answered, own(policy).answer(asked, 2, sampling), strict=True):
            assert_same(one, expected)
            reasons |= {answer.finish_reason for answer in expected.answers}
    assert reasons >= {"length", "stop"}


def assert_same(answered: Answered, expected: Answered) -> None:
    assert answered.prompt.token_ids.tolist() == expected.prompt.token_ids.tolist()
    for answer, other in zip(answered.answers, expected.answers, strict=True):
        assert answer.token_ids == other.token_ids
        assert (answer.text, answer.finish_reason) == (other.text, other.finish_reason)
        assert answer.logprobs == pytest.approx(other.logprobs, abs=NEAR)


def test_sampled_answers_have_the_trainers_log_probabilities(session, asked):
    assert gap(session, asked) < NEAR


def test_tokens_that_stand_for_images_are_never_sampled(session, asked):
    """At a temperature at which most others are."""
    answered = session.answerer.answer(asked, 8, Sampling(32, temperature=2.0))
    drawn = {token for answers in tokens(answered) for answer in answers for token in answer}
    policy = session.learner.policy
    assert len(drawn) > 0.5 * (~policy.suppressed).sum()
    assert not drawn & set(policy.suppressed_ids.tolist())


def test_answers_come_again_alone_and_in_company(session, asked):
    first = tokens(session.answerer.answer(asked, 4, SAMPLED, step=3))
    assert tokens(session.answerer.answer(asked[:1], 4, SAMPLED, step=3)) == first[:1]
    assert tokens(session.answerer.answer(asked, 4, SAMPLED, step=3)) == first
    assert tokens(session.answerer.answer(asked, 4, SAMPLED, step=4)) != first
    assert all(len(set(group)) > 1 for group in first)


@pytest.mark.parametrize("part", ["", "visual", "embed_tokens"])
def test_new_weights_answer_the_next_question(session, asked, part):
    """Of everything, of the vision tower, whose features of the same images vLLM keeps, and of the embedding,
    which may be the head."""
    policy = session.learner.policy
    if not any(part in name for name, _ in policy.named_parameters()):
        pytest.skip("the model reads no images")
    assert gap(session, asked) < NEAR
    move(policy, part)
    assert gap(session, asked) > 1e-2
    bring(session)
    assert gap(session, asked) < NEAR


@pytest.mark.parametrize("left_out", ["layers.1.mlp.down_proj.weight", "layers.0.self_attn.k_proj.weight"])
def test_a_weight_that_does_not_come_is_an_error(session, asked, monkeypatch, left_out):
    published = learner_module.published

    def without(*arguments):
        for part in published(*arguments):
            yield [(name, tensor) for name, tensor in part if not name.endswith(left_out)]

    with monkeypatch.context() as patch:
        patch.setattr(learner_module, "published", without)
        with pytest.raises(EngineError, match="weights that the trainer does not send"):
            bring(session)
    bring(session)
    assert gap(session, asked) < NEAR

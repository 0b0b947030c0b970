"""Answers of servers are the trainer's own, each counted once, whatever happens on the way."""

import threading
import time

import httpx
import pytest
import torch

from gpg_vl.errors import EngineError
from gpg_vl.model.frontend import Frontend
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.rollout.answering import Answered, Answerer
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.vllm import servers
from gpg_vl.rollout.vllm.asking import Asking
from gpg_vl.rollout.vllm.server import ServerEngine
from gpg_vl.rollout.vllm.serving import log_file
from gpg_vl.rollout_config import ServerConfig
from gpg_vl.runtime.parallel import World
from tests.support.fake_vllm.model import Served
from tests.support.fake_vllm.server import GENERATE, serving
from tests.support.inputs import encoder_of
from tests.support.server_engines import asking, coming_back, enliven, learn, own, tokens

GREEDY = Sampling(12, temperature=0.0)
SAMPLED = Sampling(8)


@pytest.fixture(scope="module")
def policy(tiny_folder) -> Policy:
    """A policy that has learned something since the servers were started."""
    policy = load_policy(str(tiny_folder))
    enliven(policy)
    return policy


@pytest.fixture(scope="module")
def models(tiny_folder) -> list[Served]:
    """What two servers hold."""
    return [Served(tiny_folder), Served(tiny_folder)]


@pytest.fixture
def calm(policy, models, scene_samples) -> list[list[tuple[int, ...]]]:
    """What the first eight questions are answered where nothing happens."""
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        return tokens(answerer.answer(scene_samples[:8], 3, SAMPLED))


def assert_same_answers(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for answer, expected in zip(one.answers, other.answers, strict=True):
            assert answer.token_ids == expected.token_ids
            assert (answer.text, answer.finish_reason) == (expected.text, expected.finish_reason)
            assert answer.logprobs == pytest.approx(expected.logprobs, rel=1e-6, abs=1e-6)


def test_greedy_answers_are_those_of_the_policy_itself(policy, models, mixed_samples, monkeypatch):
    """Prompts with an image, with two and with none; answers that end by a token, a text and their length."""
    free = own(policy).answer(mixed_samples, 1, GREEDY)
    monkeypatch.setattr(policy.model.generation_config, "eos_token_id", free[0].answers[0].token_ids[5])
    stop = free[2].answers[0].text[3:6]
    sampling = Sampling(12, temperature=0.0, stop=(stop,))
    expected = own(policy).answer(mixed_samples, 3, sampling)
    assert {answer.finish_reason for one in expected for answer in one.answers} == {"eos", "stop", "length"}
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        assert_same_answers(answerer.answer(mixed_samples, 3, sampling), expected)
        assert server.report.answered == len(mixed_samples)  # one answer, three times


def test_answers_of_a_group_differ_and_come_again(policy, models, scene_samples):
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(7)
        first = answerer.answer(scene_samples[:3], 4, SAMPLED, step=1)
        again = answerer.answer(scene_samples[:3], 4, SAMPLED, step=1)
        later = answerer.answer(scene_samples[:3], 4, SAMPLED, step=2)
    assert tokens(first) == tokens(again) != tokens(later)
    assert all(len(set(group)) == 4 for group in tokens(first))
    assert {answer.version for one in first for answer in one.answers} == {7}


def test_servers_share_the_questions_and_are_asked_a_few_at_a_time(policy, models, scene_samples):
    done: list[int] = []
    with (
        serving(models[0], slow=0.1) as one,
        serving(models[1], slow=0.1) as other,
        asking(policy, one.url, other.url, connections=2) as answerer,
    ):
        answerer.engine.sync(0)
        questions = answerer.encoder.questions(scene_samples[:12])
        ids = [sample.id for sample in scene_samples[:12]]
        answerer.sample(questions, 2, SAMPLED, step=0, ids=ids, done=lambda place, _: done.append(place))
    assert sorted(done) == list(range(12))
    assert one.report.most == other.report.most == 2
    assert min(one.report.answered, other.report.answered) >= 3
    seeds = one.report.seeds + other.report.seeds
    assert len(set(seeds)) == len(seeds) == 12


@pytest.mark.parametrize("mischief", [{"drop_every": 5}, {"twice": True}])
def test_an_answer_that_is_lost_or_comes_twice_counts_once(policy, models, scene_samples, calm, mischief):
    with serving(models[0], **mischief) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        done: list[int] = []
        questions = answerer.encoder.questions(scene_samples[:8])
        ids = [sample.id for sample in scene_samples[:8]]
        found = answerer.sample(questions, 3, SAMPLED, step=0, ids=ids, done=lambda i, _: done.append(i))
    assert tokens(found) == calm
    assert sorted(done) == list(range(8))
    assert server.report.updates == 1  # the weights were there still
    assert (server.report.dropped > 0) == ("drop_every" in mischief)
    assert len(set(server.report.seeds)) == 8 == len(server.report.seeds) - server.report.dropped


def test_questions_of_a_server_that_dies_go_to_the_other(policy, models, scene_samples, calm):
    with (
        serving(models[0], die_after=2) as one,
        serving(models[1]) as other,
        asking(policy, one.url, other.url, connections=2) as answerer,
    ):
        answerer.engine.sync(0)
        assert tokens(answerer.answer(scene_samples[:8], 3, SAMPLED)) == calm
    assert one.ended.is_set()
    assert other.report.updates == 1
    assert other.report.answered >= 6


def test_a_server_that_comes_back_gets_the_weights_and_goes_on(policy, models, scene_samples, calm, capsys):
    with serving(models[0], die_after=3) as first, coming_back(first) as second:
        with asking(policy, first.url, connections=2) as answerer:
            answerer.engine.sync(0)
            assert tokens(answerer.answer(scene_samples[:8], 3, SAMPLED)) == calm
        assert second().report.updates == 1
        assert first.report.answered + second().report.answered >= 8
    assert f"{first.url} is gone" in capsys.readouterr().err


def test_a_server_that_only_another_process_missed_gets_the_weights(policy, models, scene_samples):
    class Two(World):
        """Another process loses its server, once."""

        def any(self, flag: bool) -> bool:
            return flag or next(others)

    others = iter([])
    with serving(models[0]) as first, coming_back(first) as second:
        with asking(policy, first.url, world=Two()) as answerer:
            answerer.engine.sync(0)
            first.end()
            second()
            others = iter([True, True, False])
            answerer.answer([], 2, SAMPLED)
        assert second().endpoints.version == first.endpoints.version != "default"


def test_patience_ends_with_the_last_lines_of_the_server(
    policy, models, scene_samples, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serving(models[0], die_after=1) as server:
        log = log_file(server.server_address[1])
        log.parent.mkdir(parents=True)
        log.write_text("INFO: started\nRuntimeError: not enough memory for the cache\n")
        with asking(policy, server.url, patience=0.1) as answerer:
            answerer.engine.sync(0)
            with pytest.raises(EngineError, match=r"within 0\.1 seconds.*not enough memory for the cache"):
                answerer.answer(scene_samples[:4], 2, SAMPLED)
    with pytest.raises(EngineError, match=r"start one with `gpg-vl serve`.*not enough memory"):
        asking(policy, server.url, patience=0.0).__enter__()


def test_a_server_that_dies_of_each_question_ends_the_run(policy, models, scene_samples):
    """It is healthy, and never gives an answer."""
    with serving(models[0], drop_every=1) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        with pytest.raises(EngineError, match="is gone"):
            answerer.answer(scene_samples[:2], 2, SAMPLED)
        assert server.report.updates == 3


@pytest.mark.parametrize(
    ("mischief", "message"),
    [
        ({"version": "another-3"}, "answered with weights another-3 .* does another run use it"),
        ({"version": "default"}, "came back without the weights of now"),
        ({"another_prompt": True}, r"vLLM read \d+ tokens, and the trainer \d+"),
    ],
)
def test_answers_to_something_else_are_refused(policy, models, scene_samples, mischief, message):
    with serving(models[0], **mischief) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        with pytest.raises(EngineError, match=message):
            answerer.answer(scene_samples[:4], 2, SAMPLED)


def test_a_weight_that_does_not_arrive_is_an_error(policy, models):
    with (
        serving(models[0], lose="layers.1.mlp.up_proj") as server,
        asking(policy, server.url) as answerer,
        pytest.raises(EngineError, match=r"has 1 weights that .* model\.layers\.1\.mlp\.up_proj"),
    ):
        answerer.engine.sync(0)


def test_what_watch_raises_ends_the_answers_and_no_others(policy, models, scene_samples):
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        server.mischief.slow = 60.0
        question = {"token_ids": [3, 4], "return_token_ids": True}
        params = {"n": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_tokens": 2}
        params |= {"stop": [], "stop_token_ids": [], "ignore_eos": True, "seed": None}
        replies = []
        body = question | {"sampling_params": params}
        another = threading.Thread(
            target=lambda: replies.append(httpx.post(f"{server.url}{GENERATE}", json=body).json())
        )

        def stop(_: object) -> None:
            if server.report.asked == 4 and another.ident is None:
                server.mischief.slow = 2.0
                another.start()
            elif server.report.asked == 5:
                raise KeyboardInterrupt

        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            answerer.answer(scene_samples[:8], 2, SAMPLED, watch=stop)
        another.join()
        assert time.monotonic() - start < 30
        assert server.report.aborted == 4
        assert replies[0]["choices"][0]["finish_reason"] == "length"


def test_answers_that_somebody_else_ended_are_asked_for_again(policy, models, scene_samples, calm):
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        server.mischief.slow = 60.0

        def end_all(_: object) -> None:
            if server.report.asked == 4:
                server.mischief.slow = 0.0
                httpx.post(f"{server.url}/abort_requests", json={})

        assert tokens(answerer.answer(scene_samples[:8], 3, SAMPLED, watch=end_all)) == calm
        assert server.report.aborted >= 4


def test_weights_come_by_files_as_well(policy, models, scene_samples, tmp_path):
    learn(policy)
    expected = own(policy).answer(scene_samples[:3], 2, GREEDY)
    with serving(models[0]) as server:
        with asking(policy, server.url, sync="file", folder=str(tmp_path / "shared")) as answerer:
            assert answerer.engine.sync(0).bytes > 0
            assert_same_answers(answerer.answer(scene_samples[:3], 2, GREEDY), expected)
        assert server.report.files > 0
        assert server.report.trainer == ""
    assert not list((tmp_path / "shared").iterdir())


def test_weights_are_sent_once_a_version(policy, models, scene_samples):
    with (
        serving(models[0]) as one,
        serving(models[1]) as other,
        asking(policy, one.url, other.url) as answerer,
    ):
        size = sum(weight.numel() * weight.element_size() for weight in policy.parameters())
        assert answerer.engine.sync(0).bytes == pytest.approx(2 * size, rel=0.1)
        assert answerer.engine.sync(0).bytes == 0
        learn(policy)
        assert answerer.engine.sync(1).bytes > 0
        expected = own(policy).answer(scene_samples[:6], 2, GREEDY)
        assert_same_answers(answerer.answer(scene_samples[:6], 2, GREEDY), expected)
        assert answerer.engine.version == 1
    assert one.report.updates == other.report.updates == 2


def test_one_of_two_servers_dies_in_a_sync_and_takes_part_again(
    policy, models, scene_samples, capsys, monkeypatch
):
    monkeypatch.setattr(servers, "_AWAY", 0.0)
    with (
        serving(models[0]) as one,
        serving(models[1]) as other,
        asking(policy, one.url, other.url) as answerer,
        coming_back(other) as second,
    ):
        answerer.engine.sync(0)
        other.mischief.die_at = "/update_weights"
        learn(policy)
        answerer.engine.sync(1)
        expected = own(policy).answer(scene_samples[:6], 2, GREEDY)
        assert_same_answers(answerer.answer(scene_samples[:6], 2, GREEDY), expected)
        assert one.report.answered == 6
        assert "going on without it" in capsys.readouterr().err
        second()
        answerer.engine.sync(2)
        assert_same_answers(answerer.answer(scene_samples[:6], 2, GREEDY), expected)
        assert second().report.answered > 0


def test_a_sync_waits_for_the_only_server(policy, models, scene_samples):
    learn(policy)
    with serving(models[0], die_at="/update_weights") as first, coming_back(first) as second:
        with asking(policy, first.url) as answerer:
            assert answerer.engine.sync(0).bytes > 0
            assert answerer.engine.sync(0).bytes == 0
            expected = own(policy).answer(scene_samples[:3], 2, GREEDY)
            assert_same_answers(answerer.answer(scene_samples[:3], 2, GREEDY), expected)
        assert second().report.updates == 1


def test_a_server_that_another_trainer_left_in_a_sync_is_taken_over(policy, models, scene_samples):
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        for path in ("/pause", "/start_weight_update"):
            httpx.post(f"{server.url}{path}").raise_for_status()
        answerer.engine.sync(0)
        answerer.answer(scene_samples[:2], 2, SAMPLED)


def test_weights_of_the_server_are_those_of_the_policy(policy, models):
    """Every one, bit for bit."""
    learn(policy)
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
    theirs = dict(models[0].policy.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in policy.named_parameters())


def test_who_stops_does_not_stop_the_others_of_an_engine(policy, models, scene_samples):
    """The app asks one engine from several threads."""
    with serving(models[0]) as server, asking(policy, server.url) as answerer:
        answerer.engine.sync(0)
        server.mischief.slow = 1.0
        others: list[list[Answered]] = []
        another = threading.Thread(
            target=lambda: others.append(answerer.answer(scene_samples[:2], 2, SAMPLED)), daemon=True
        )

        def stop(_: object) -> None:
            if server.report.asked == 4:
                raise KeyboardInterrupt

        another.start()
        with pytest.raises(KeyboardInterrupt):
            answerer.answer(scene_samples[2:4], 2, SAMPLED, watch=stop)
        another.join(60)
    assert [len(one.answers) for one in others[0]] == [2, 2]


def test_an_engine_whose_server_was_gone_asks_again(policy, models, scene_samples, tiny_folder):
    """Nobody else would look whether it is back."""
    first = serving(models[0])
    frontend = Frontend.of(policy)
    with first as server:
        config = ServerConfig(server.url, patience=0.0)
        engine = ServerEngine(config, Asking(frontend, 5), max_concurrent=8, model=str(tiny_folder))
        answerer = Answerer(encoder_of(policy), engine)
        host, port = server.server_address[:2]
        server.end()
        for _ in range(2):
            with pytest.raises(EngineError, match="no server at"):
                answerer.answer(scene_samples[:1], 2, SAMPLED)
    with serving(models[0], host=str(host), port=int(port)):
        assert len(answerer.answer(scene_samples[:1], 2, SAMPLED)[0].answers) == 2


def test_one_run_a_server(policy, models, scene_samples):
    with serving(models[0]) as server, asking(policy, server.url) as first:
        first.engine.sync(0)
        with asking(policy, server.url) as second:
            second.engine.sync(0)
            with pytest.raises(EngineError, match="another run"):
                first.engine.sync(1)
            assert second.answer(scene_samples[:1], 2, SAMPLED)


def test_a_server_of_short_sequences_is_refused(policy, models):
    with serving(models[0]) as server:
        config, how = ServerConfig(server.url), Asking(Frontend.of(policy), 5)
        with pytest.raises(EngineError, match="--max_model_len 1000000000"):
            ServerEngine(config, how, max_concurrent=8, weights=list, max_len=1_000_000_000)


def test_only_the_model_itself_is_evaluated(policy, models, tmp_path):
    with serving(models[0]) as server, asking(policy, server.url) as trainer:
        config, how = ServerConfig(server.url), Asking(Frontend.of(policy), 5)
        with pytest.raises(EngineError, match=r"and '.*' is asked for"):
            ServerEngine(config, how, max_concurrent=8, model=str(tmp_path))
        trainer.engine.sync(0)
        with pytest.raises(EngineError, match="has a trainer's weights"):
            ServerEngine(config, how, max_concurrent=8, model=models[0].folder)

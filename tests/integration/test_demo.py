"""The app as a server: answers over its API, limits, and files that stay closed."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from gpg_vl.data.ingest import write_prepared
from gpg_vl.demo.service.asking import Asking, Fields, Outcome
from gpg_vl.demo.service.clients import Client as Visitor
from gpg_vl.demo.service.generate import Ask, Generations, Progress
from gpg_vl.demo.service.judging import Judges
from gpg_vl.demo.service.models import Models
from gpg_vl.demo.service.samples import PreparedSets
from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.rollout.answering import Answered
from gpg_vl.types import Sample
from tests.support.command_line import mistake
from tests.support.families import save_endless, save_family
from tests.support.inputs import bomb, noise
from tests.support.judged import answered
from tests.support.serving import served

VISITOR = Visitor("here", "visitor")
SIZE = ("--max_new_tokens", "64", "--upload_megapixels", "0.01", "--upload_mib", "0.1")


@pytest.fixture(scope="module")
def server(tiny_folder: Path, scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an app with a password."""
    models = ("--base", tiny_folder, "--trained", tiny_folder, "--data", scenes_folder)
    folder = tmp_path_factory.mktemp("server")
    with served(folder, *models, "--auth_env", "DEMO_AUTH", *SIZE, DEMO_AUTH="ada:secret") as address:
        yield address


def client(server: str) -> Client:
    return Client(server, auth=("ada", "secret"), verbose=False)


@pytest.fixture(scope="module")
def visitor(server: str) -> Client:
    return client(server)


def test_the_documented_call(visitor, tmp_path):
    noise(84, 84).save(tmp_path / "image.png")
    result = visitor.predict(
        question="How many?",
        image=handle_file(tmp_path / "image.png"),
        choices="1\n2\n3",
        gold="2",
        samples=3,
        temperature=1.0,
        max_new_tokens=6,
        api_name="/compare",
    )
    assert set(result) == {"base", "trained"}
    base = result["base"]
    assert base["state"] == "done" and base["error"] is None
    assert base["prompt"].endswith(
        "How many? Select from the following choices.\n(A) 1\n(B) 2\n(C) 3 Output the thinking process in "
        "<think> </think> and final answer (option) in <answer> </answer> tags.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert len(base["answers"]) == 3 and base["vote"] == {"answer": None, "count": 3, "right": False}
    assert {answer["tokens"] for answer in base["answers"]} == {6}
    assert base["answers"][0]["rewards"] == {"choice": 0.0, "format": 0.0}
    # One folder given twice is one model, and its answers come from the same random streams.
    assert [one["text"] for one in base["answers"]] == [one["text"] for one in result["trained"]["answers"]]


def test_only_one_endpoint_is_announced(visitor):
    assert list(visitor.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/compare"]


def test_twenty_parallel_visitors_get_answers(server, tmp_path):
    noise(84, 84).save(tmp_path / "image.png")

    def ask(number: int) -> str:
        image = handle_file(tmp_path / "image.png") if number % 2 else None
        result = client(server).predict(
            question=f"Is it {number}?", image=image, max_new_tokens=12, api_name="/compare"
        )
        assert {pane["state"] for pane in result.values()} == {"done"}
        assert f"Is it {number}?" in result["base"]["prompt"]
        return result["base"]["answers"][0]["text"]

    with ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(ask, range(20)))) == 20


def test_mistakes_come_back_as_messages(visitor, tmp_path):
    noise(101, 100).convert("L").save(tmp_path / "large.jpg", quality=5)
    for changes, message in [
        ({"question": ""}, "The question is empty"),
        ({"samples": 2}, "2 greedy answers would be the same"),
        ({"max_new_tokens": 65}, "max_new_tokens is 1 to 64 here"),
        ({"image": handle_file(tmp_path / "large.jpg")}, "101×100 pixels"),
        ({"image": handle_file(bomb(tmp_path / "bomb.png", 60_000, 60_000))}, "decompression bomb"),
        ({"answer_type": "choice", "question": "<|image_pad|>"}, ""),
    ]:
        given = {"question": "Why?", "image": None, "max_new_tokens": 4, **changes}
        if message:
            with pytest.raises(AppError, match=message):
                visitor.predict(**given, api_name="/compare")
        else:
            pane = visitor.predict(**given, api_name="/compare")["base"]
            assert (pane["state"], "special token" in pane["error"]) == ("failed", True)


@pytest.fixture
def browser(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=20) as session:
        assert session.get("/config").status_code == 401
        assert session.post("/login", data={"username": "ada", "password": "wrong"}).status_code == 400
        session.post("/login", data={"username": "ada", "password": "secret"}).raise_for_status()
        yield session


def test_nothing_but_the_login_page_is_served_before_the_login(server, browser):
    page = httpx.get(server, timeout=20)
    needed = ("/theme.css", *re.findall(r'(?:src|href)="\.?(/(?:assets|static)/[^"]+)"', page.text))
    assert page.status_code == 200 and len(needed) > 1
    assert {httpx.get(f"{server}{path}", timeout=20).status_code for path in needed} == {200}
    for path in (
        "/openapi.json",
        "/robots.txt",
        "/gradio_api/app_id",
        "/gradio_api/app_id/",
        "/manifest.json",
    ):
        assert httpx.get(f"{server}{path}", timeout=20).status_code == 401
        assert browser.get(path).status_code == 200
    for path in ("/gradio_api/heartbeat/anyone", "/gradio_api/nothing"):
        assert httpx.get(f"{server}{path}", timeout=20).status_code == 401
    cancel = {"session_hash": "s", "fn_index": 0, "event_id": "e"}
    assert httpx.post(f"{server}/gradio_api/cancel", json=cancel, timeout=20).status_code == 401


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
@pytest.mark.parametrize("path", ["/etc/passwd", "{uploads}/../../../etc/passwd", "{model}", None])
def test_no_file_of_the_machine_is_read(browser, tiny_folder, path, meta):
    path = path and path.format(uploads="/tmp/gradio", model=tiny_folder / "config.json")
    image = {"path": path, "url": f"file://{path}", **meta}
    arguments = ["Why?", image, "", "choice", "", 1, 0, 4, 0]
    event = browser.post("/gradio_api/call/compare", json={"data": arguments}).json()["event_id"]
    answer = browser.get(f"/gradio_api/call/compare/{event}").text
    assert "event: error" in answer and "root:" not in answer
    assert '"error": null' in answer or "is no uploaded file" in answer


def test_no_file_of_the_machine_is_served(browser, tiny_folder, scenes_folder):
    for path in (
        "/etc/passwd",
        tiny_folder / "config.json",
        scenes_folder / "manifest.json",
        "pyproject.toml",
    ):
        assert browser.get(f"/gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize(
    ("place", "reason"), [("image", "the image is a web address"), ("question", "this is no text")]
)
def test_no_web_address_is_fetched(browser, server, place, reason):
    """The app's own address would answer with a page that is no image."""
    file = {"path": f"{server}/theme.css", "meta": {"_type": "gradio.FileData"}}
    image, question = (file, "Why?") if place == "image" else (None, file)
    arguments = [question, image, "", "choice", "", 1, 0, 4, 0]
    event = browser.post("/gradio_api/call/compare", json={"data": arguments}).json()["event_id"]
    answer = browser.get(f"/gradio_api/call/compare/{event}").text
    assert "event: error" in answer and reason in answer


def test_large_files_are_refused_before_they_are_stored(browser):
    answer = browser.post("/gradio_api/upload", files={"files": ("a.png", b"0" * 200_000, "image/png")})
    assert answer.status_code == 413


@pytest.fixture(scope="module")
def judges() -> Iterator[Judges]:
    judges = Judges()
    yield judges
    judges.close()


@pytest.fixture
def asked(scenes_folder, judges):
    """Asks two models a question about an image, and gives all outcomes, to a reader who pauses at each."""

    def ask(base: Path, trained: Path, pause: float = 0.0, **fields: object) -> list[Outcome]:
        settings = DemoSettings(str(base), str(trained), data=(str(scenes_folder),))
        asking = Asking(settings, PreparedSets(settings.data), Generations(Models(), 2), judges)
        place = asking.sets.place(str(scenes_folder), "all tasks", 1)
        sample: Sample = asking.sets.sample(place)
        given = Fields(None, sample.question, "\n".join(sample.choices), gold=sample.answer, **fields)
        outcomes = []
        for outcome in asking.outcomes(given, place, VISITOR):
            outcomes.append(outcome)
            time.sleep(pause)
        return outcomes

    return ask


def test_a_slow_reader_has_the_verdicts_too(asked, tiny_folder):
    """They become known between two looks, and nobody looks again behind the last one."""
    panes = asked(tiny_folder, tiny_folder, pause=2.0, max_new_tokens=4)[-1].panes
    assert [(pane.scoring, pane.verdicts[0].right) for pane in panes.values()] == [(False, False)] * 2


def test_a_model_that_cannot_load_leaves_the_other_alone(asked, tiny_folder, tmp_path):
    broken = shutil.copytree(tiny_folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    for folder, message in [(broken, "has no loadable weights"), (tmp_path, "it has no config.json")]:
        panes = asked(tiny_folder, folder, max_new_tokens=4)[-1].panes
        assert panes["base"].progress.state == "done" and panes["base"].verdicts[0].right is False
        assert panes["trained"].progress.state == "failed"
        assert message in panes["trained"].progress.error


def test_a_text_model_says_that_it_takes_no_images(asked, tiny_folder, tmp_path):
    panes = asked(save_family("qwen2", tmp_path / "text", tiny_folder), tiny_folder, max_new_tokens=4)[
        -1
    ].panes
    assert "has an image, and the model takes text only" in panes["base"].progress.error
    assert panes["trained"].progress.state == "done"


@pytest.fixture
def mixed(mixed_samples, tiny_folder, tmp_path, judges):
    """Asks a model with these rewards the question with two images, and gives the last outcome."""
    write_prepared(mixed_samples, tmp_path / "mixed", source="", converter="scenes", version="1")

    def ask(rewards: dict[str, object]) -> Outcome:
        model = shutil.copytree(tiny_folder, tmp_path / "model")
        (model / "gpg_vl.json").write_text(json.dumps({"prompt": {}, "rewards": rewards}))
        settings = DemoSettings(str(model), data=(str(tmp_path / "mixed"),))
        asking = Asking(settings, PreparedSets(settings.data), Generations(Models(), 1), judges)
        given = Fields(None, "Left?", "1\n2", gold="(A)", max_new_tokens=4)
        return list(asking.outcomes(given, asking.sets.find("two"), VISITOR))[-1]

    return ask


def test_each_model_is_judged_as_soon_as_it_is_done(scenes_folder, judges):
    """The base model's verdict is there while the trained one still writes."""
    settings = DemoSettings("base", "trained", data=(str(scenes_folder),))
    models = Uneven()
    asking = Asking(settings, PreparedSets(settings.data), models, judges)  # type: ignore[arg-type]
    place = asking.sets.place(str(scenes_folder), "all tasks", 1)
    sample = asking.sets.sample(place)
    given = Fields(None, sample.question, "\n".join(sample.choices), gold=sample.answer)
    outcomes = []
    for outcome in asking.outcomes(given, place, VISITOR):
        outcomes.append(outcome)
        if not outcome.panes["base"].scoring:
            models.go_on.set()
    early = [one.panes for one in outcomes if one.panes["trained"].progress.state == "writing"]
    assert early[0]["base"].scoring and early[0]["base"].verdicts[0].answer == "(A)"
    assert early[-1]["base"].verdicts[0].right is not None and not early[-1]["trained"].verdicts
    last = outcomes[-1].panes
    assert not any(pane.scoring for pane in last.values())
    assert last["trained"].verdicts == last["base"].verdicts


class Uneven:
    """The base model is done at once, the trained one when it is told."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def follow(self, _: object, paths: list[str], ask: Ask) -> Iterator[list[Progress]]:
        answer = answered("(A)")
        done = Progress("done", (answer.text,), (3,), answered=Answered(ask.sample, None, (), (answer,)))  # type: ignore[arg-type]
        while not self.go_on.wait(0.05):
            yield [done, Progress("writing")]
        yield [done, done]


def test_several_images_reach_the_model(mixed):
    outcome = mixed({"format": 1.0})
    assert len(outcome.sample.images) == 2
    assert outcome.panes["base"].progress.prompt.count("<|image_pad|>") == 2
    assert outcome.panes["base"].progress.state == "done"


@pytest.mark.parametrize(
    ("task", "names", "problem"),
    [("t", {"format"}, ""), ("other", {"choice", "format"}, "no entry for task 't'")],
)
def test_rewards_by_task(mixed, task, names, problem):
    [verdict] = mixed({"by_task": {task: {"format": 1.0}}}).panes["base"].verdicts
    assert set(verdict.rewards) == names
    assert problem in verdict.problem and bool(problem) == bool(verdict.problem)


@pytest.fixture
def endless(tiny_folder: Path, tmp_path: Path) -> Asking:
    """One place, and a model that writes on and on."""
    folder = save_endless(tmp_path / "endless", tiny_folder)
    return Asking(DemoSettings(str(folder)), PreparedSets(()), Generations(Models(), 1))


LONG = Fields(None, "Why?", samples=16, temperature=1.5, max_new_tokens=1000)


def test_answers_stream_and_stop(endless):
    seen = []
    for outcome in endless.outcomes(LONG, None, VISITOR):
        seen.append(outcome.panes["base"].progress)
        endless.generations.stop("another visitor")
        if len({progress.tokens for progress in seen}) == 3:
            endless.generations.stop("visitor")
    assert seen[-1].state == "stopped" and 0 < max(seen[-1].tokens) < 1000
    streamed = [progress.texts[0] for progress in seen if progress.texts]
    assert len(set(streamed)) > 1
    assert streamed[-1].startswith(streamed[0].rstrip("\N{REPLACEMENT CHARACTER}"))


def test_a_closed_page_frees_its_place(endless):
    leaving, waiting = (endless.outcomes(LONG, None, Visitor("here", name)) for name in ("first", "second"))
    next(leaving)
    assert next(waiting).panes["base"].progress.state == "waiting"
    leaving.close()
    while next(waiting).panes["base"].progress.state != "writing":
        pass
    waiting.close()


def test_mistakes_of_the_command(capsys, tiny_folder, tmp_path):
    assert "--base is missing" in mistake(capsys, "demo")
    base = ("--base", tiny_folder)
    assert "cannot be read" in mistake(capsys, "demo", *base, "--auth_file", tmp_path / "none")
    assert "not a prepared data set" in mistake(capsys, "demo", *base, "--data", tmp_path)


def test_a_port_in_use_is_a_users_mistake(server, tiny_folder):
    port = server.rpartition(":")[2]
    words = [sys.executable, "-m", "gpg_vl", "demo", "--base", str(tiny_folder), "--port", port]
    output = subprocess.run(words, capture_output=True, text=True)
    assert output.returncode == 2
    assert f"gpg-vl: error: cannot listen on 127.0.0.1, port {port}" in output.stderr


def test_help_needs_no_heavy_imports():
    code = (
        "import sys, contextlib; from gpg_vl.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(['demo', '--help'])\n"
        "print([name for name in ('torch', 'gradio', 'transformers') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.splitlines()[-1] == "[]" and "--upload_megapixels" in output.stdout

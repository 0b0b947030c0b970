"""Models, data, servers, and training sessions on them. All stay until the end: they are slow to make."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

import gpg_vl.rollout.vllm.in_process as engine
from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.tiny import save_tiny
from gpg_vl.prompting.prompts import question_text
from gpg_vl.training.session import Session
from gpg_vl.types import Sample
from tests.support.families import save_family
from tests.support.training import session_of
from tests.support.vllm_engines import BLOCKS, FAMILIES, IN_BF16, SIZE, config_of, questions_of
from tests.support.vllm_servers import Serve

SERVERS = {"server": ("qwen2_vl", 1), "pair": ("qwen2_5_vl", 2)}
"""By fixture: the model and its processes."""


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory, scene_samples: list[Sample]) -> Callable[[str], Path]:
    """A folder with a model of a family."""
    folder = tmp_path_factory.mktemp("models")
    tiny = save_tiny(folder / "tiny", [question_text(sample) for sample in scene_samples], SIZE)
    return cache(lambda family: save_family(family, folder / family, tiny, **(FAMILIES | IN_BF16)[family]))


@pytest.fixture(scope="session")
def questions(mixed_samples: list[Sample], scene_samples: list[Sample]) -> list[Sample]:
    """With an image, with two, and without."""
    return [*mixed_samples, *scene_samples[:4], Sample("more", "t", "Why? " * 9, "(A)", "choice", ("1", "2"))]


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory, questions: list[Sample]) -> Callable[[str], Path]:
    """A data set that a family's models can be trained on."""

    @cache
    def write(family: str) -> Path:
        folder = tmp_path_factory.mktemp("data") / family
        rows = questions_of(family, questions)
        write_prepared(rows, folder, source="", converter="mixed", version="1")
        return folder

    return write


@pytest.fixture(scope="session")
def in_process(
    tmp_path_factory: pytest.TempPathFactory, model_of: Callable[[str], Path], data_of: Callable[[str], Path]
) -> Iterator[Callable[..., Session]]:
    """A session on a family's model whose vLLM is in this process; kept, as the end of one is that of all."""

    @cache
    def make(family: str, **options: str) -> Session:
        out = tmp_path_factory.mktemp("run") / "run"
        return session_of(config_of(model_of(family), data_of(family), out, {"engine": "vllm"}, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_load", partial(engine._load, num_gpu_blocks_override=BLOCKS))
        yield make


@pytest.fixture(scope="session")
def serve(
    tmp_path_factory: pytest.TempPathFactory, model_of: Callable[[str], Path]
) -> Iterator[Callable[[str], Serve]]:
    started = []

    @cache
    def start(name: str) -> Serve:
        family, size = SERVERS[name]
        folder = tmp_path_factory.mktemp(name)
        started.append(Serve(folder, model_of(family), "--tensor_parallel_size", size))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="session", autouse=True)
def started_early(request: pytest.FixtureRequest) -> None:
    """Servers start while what needs none of them is tested."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in SERVERS.keys() & wanted:
        request.getfixturevalue(name)


@pytest.fixture(scope="session")
def server(serve: Callable[[str], Serve]) -> Serve:
    return serve("server")


@pytest.fixture(scope="session")
def pair(serve: Callable[[str], Serve]) -> Serve:
    """One whose model is shared by two processes."""
    return serve("pair")

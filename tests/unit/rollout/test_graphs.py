"""When a step is captured, with stand-ins for the device's graphs; what they replay, only a GPU shows."""

import pytest
import torch

from gpg_vl.rollout.graphs import Graphs


class Replayed:
    """A graph that notes its replays."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.name, self.done = name, done

    def replay(self) -> None:
        self.done.append(f"replayed {self.name}")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Waiting(done))
    return done


class Waiting:
    def __init__(self, done: list[str]) -> None:
        self.done = done

    def synchronize(self) -> None:
        self.done.append("waited")


def capturing(graphs: Graphs, done: list[str], failures: int = 0) -> None:
    """Let captures of `graphs` run out of memory so many times."""
    left = [failures]

    def capture(step):
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.append("captured")
        return Replayed("it", done)

    graphs._capture = capture  # type: ignore[method-assign]


def test_a_step_is_captured_when_it_comes_again(done):
    graphs = Graphs(enabled=True)
    capturing(graphs, done)
    for key in ("a", "a", "a", "b", "a", "b"):
        graphs.run(key, lambda key=key: done.append(key))
    assert done == ["a", "captured", *["replayed it"] * 2, "b", "replayed it", "captured", "replayed it"]
    done.clear()
    graphs.forget()
    graphs.run("a", lambda: done.append("a"))
    assert done == ["waited", "a"]  # never destroyed while it may run


def test_without_graphs_every_step_runs(done):
    graphs = Graphs(enabled=False)
    for _ in range(3):
        graphs.run("a", lambda: done.append("a"))
    graphs.forget()
    assert done == ["a"] * 3


def test_a_capture_that_runs_out_of_memory_is_tried_again(done):
    graphs = Graphs(enabled=True)
    capturing(graphs, done, failures=1)
    for _ in range(3):
        graphs.run("a", lambda: done.append("a"))
    assert done == ["a", "emptied", "captured", "replayed it", "replayed it"]


def test_without_memory_for_graphs_steps_run_as_they_are(done):
    graphs = Graphs(enabled=True)
    capturing(graphs, done, failures=2)
    for key in ("a", "a", "a", "b", "b"):
        graphs.run(key, lambda key=key: done.append(key))
    assert done == ["a", "emptied", "emptied", "a", "a", "b", "b"]
    assert not graphs.enabled

"""`gpg-vl serve`: vLLM's command, what is refused, and that nothing of vLLM outlives it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from http.server import HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from gpg_vl.cli.serve import serve
from gpg_vl.errors import ConfigurationError, EngineError
from gpg_vl.rollout.vllm.serving import Installed, Kind, ServeSettings, log_file, vllm_command
from tests.support.processes import ending
from tests.support.vllm_stand_in import PIDS, _Health, install
from tests.support.waiting import running, until


@pytest.fixture(autouse=True)
def caches(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(PIDS, str(tmp_path / "pids"))


@pytest.fixture
def port() -> int:
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        return int(server.server_address[1])


@pytest.fixture
def python(tmp_path) -> str:
    return install(tmp_path, ["vllm"])


def started() -> list[int]:
    """The ids of the stand-in and of its child, once it has them."""
    file = Path(os.environ[PIDS])
    until(lambda: file.is_file() and " " in file.read_text())
    return [int(word) for word in file.read_text().split()]


def test_the_command_can_be_pasted_into_a_shell(tiny_folder, python, capsys):
    words = ["--python", python, "--device", "cpu", "--port", "8123", "--print", "--", "--seed", "3"]
    serve(["--model", str(tiny_folder), *words])
    words = shlex.split(capsys.readouterr().out)
    variables = dict(word.split("=", 1) for word in words[: words.index(python)])
    command = words[words.index(python) :]
    assert variables["VLLM_SERVER_DEV_MODE"] == "1"
    assert Path(variables["PYTHONPATH"], "gpg_vl_worker.py").is_file()
    assert command[:5] == [python, "-m", "vllm.entrypoints.cli.main", "serve", str(tiny_folder)]
    assert command[-2:] == ["--seed", "3"]
    flags = dict(pairwise(command))
    assert (flags["--port"], flags["--dtype"]) == ("8123", "float32")
    assert flags["--logprobs-mode"] == "processed_logprobs"
    assert flags["--worker-extension-cls"] == "gpg_vl_worker.Worker"
    assert json.loads(flags["--weight-transfer-config"]) == {"backend": "gpg_vl"}
    assert json.loads(flags["--limit-mm-per-prompt"]) == {"image": 2, "video": 0}
    assert json.loads(flags["--mm-processor-kwargs"])["max_pixels"] == ServeSettings("m").max_pixels


def test_a_cards_command_names_its_type_and_share():
    settings = ServeSettings("m", tensor_parallel_size=2, gpu_memory_utilization=0.5, max_model_len=900)
    text = Kind(limits=False, recurrent=False, takes_images=False)
    words = vllm_command(settings, Installed("python", "vllm", gpu=True), text, [])
    flags = dict(pairwise(words))
    assert (flags["--dtype"], flags["--gpu-memory-utilization"]) == ("bfloat16", "0.5")
    assert (flags["--tensor-parallel-size"], flags["--max-model-len"]) == ("2", "900")
    assert "--mm-processor-kwargs" not in flags and "--enforce-eager" not in flags


def test_another_machines_command_needs_no_vllm_here(tiny_folder, capsys):
    serve(["--model", str(tiny_folder), "--print"])
    words = shlex.split(capsys.readouterr().out)
    assert words[words.index("python") :][:4] == ["python", "-m", "vllm.entrypoints.cli.main", "serve"]
    assert dict(pairwise(words))["--dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"port": 0}, "--port is from 1 to 65535"),
        ({"gpu_memory_utilization": 1.5}, "is a share above 0"),
        ({"tensor_parallel_size": 0}, "--tensor_parallel_size must be positive"),
        ({"max_model_len": -1}, "0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(option, message):
    with pytest.raises(ConfigurationError, match=message):
        ServeSettings("m", **option)


def test_an_environment_without_vllm_is_refused(tiny_folder, tmp_path):
    bare = install(tmp_path, [])
    with pytest.raises(ConfigurationError, match="has no vLLM: pip install vllm"):
        serve(["--model", str(tiny_folder), "--python", bare])
    with pytest.raises(ConfigurationError, match="is no interpreter with vLLM"):
        serve(["--model", str(tiny_folder), "--python", str(tmp_path / "nothing")])


def test_an_adapter_is_refused_by_its_base(tiny_folder, tmp_path, python):
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_folder), "task_type": "CAUSAL_LM"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(
        ConfigurationError, match=f"is a LoRA checkpoint, .* its base '{tiny_folder}' is served"
    ):
        serve(["--model", str(tmp_path), "--python", python])


def test_a_port_in_use_is_refused(tiny_folder, python):
    with HTTPServer(("127.0.0.1", 0), _Health) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ConfigurationError, match=r"answers at .* already: choose another --port"):
                words = ["--port", str(other.server_address[1])]
                serve(["--model", str(tiny_folder), "--python", python, *words])
        finally:
            other.shutdown()


def test_sigterm_is_passed_on(tiny_folder, python, port, capsys):
    def ask() -> None:
        started()
        until(lambda: "ready" in capsys.readouterr().out)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        serve(["--model", str(tiny_folder), "--python", python, "--port", str(port)])
    thread.join()
    assert ended.value.code == 0
    assert "asked to end" in log_file(port).read_text()
    assert not any(running(pid) for pid in started())


def test_a_crash_shows_the_last_lines(tiny_folder, python, port):
    with pytest.raises(
        EngineError, match=r"ended with exit code 1.*INFO: starting \| RuntimeError: not enough"
    ):
        serve(["--model", str(tiny_folder), "--python", python, "--port", str(port), "--", "--crash"])


def test_sigkill_of_the_command_leaves_nothing(tiny_folder, python, port):
    words = ["--model", str(tiny_folder), "--python", python, "--port", str(port)]
    code = f"import gpg_vl.cli.serve as s; s._kind = lambda _: s.Kind(True, False, True); s.serve({words!r})"
    with ending(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)):  # kills it
        pids = started()
        assert all(running(pid) for pid in pids)
    until(lambda: not any(running(pid) for pid in pids))

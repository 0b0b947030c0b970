"""`--accelerate`: its options, its configurations, and which processes a signal reaches."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from gpg_vl.cli.launch import MARK, Launch, _plan, _wait, kill_launch, memory_plan, take_launch_options
from gpg_vl.cli.launch_agent import _explain
from gpg_vl.errors import ConfigurationError
from tests.support.processes import ending
from tests.support.waiting import running

FILES = sorted((Path(__file__).resolve().parents[3] / "configs" / "accelerate").iterdir())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_the_configurations(file):
    config = load_config_from_file(str(file))
    stage = int(file.stem[4]) if file.stem.startswith("zero") else None
    assert config.deepspeed_config.get("zero_stage") == stage
    offloads = file.stem.endswith("offload")
    assert (config.deepspeed_config.get("offload_optimizer_device", "none") == "cpu") == offloads
    assert (config.num_processes, config.num_machines, config.mixed_precision) == (-1, 1, "no")


@pytest.mark.parametrize(
    ("arguments", "launch", "others"),
    [
        (["--out", "x"], None, ["--out", "x"]),
        (["--accelerate", "ddp", "--out", "x"], Launch("ddp", None), ["--out", "x"]),
        (["--out=x", "--processes", "2", "--accelerate=a.yaml"], Launch("a.yaml", 2), ["--out=x"]),
        (
            ["--rewards", '{"a": -1}', "--accelerate", "zero2", "--run.seed", "-3"],
            Launch("zero2", None),
            ["--rewards", '{"a": -1}', "--run.seed", "-3"],
        ),
    ],
)
def test_launch_options_are_taken_out(arguments, launch, others):
    assert take_launch_options(arguments) == (launch, others)


def test_processes_alone_are_refused():
    with pytest.raises(ConfigurationError, match="--processes needs --accelerate"):
        take_launch_options(["--processes", "2"])


def config_file(tmp_path: Path, text: str) -> str:
    file = tmp_path / "accelerate.yaml"
    file.write_text(text)
    return str(file)


TWO_MACHINES = "distributed_type: MULTI_GPU\nuse_cpu: true\nnum_machines: 2\nmain_process_ip: 10.0.0.1"


@pytest.mark.parametrize(
    ("accelerate", "processes", "message"),
    [
        ("distributed_type: [", 2, "no accelerate config"),
        ("- distributed_type: DEEPSPEED", 2, "holds no table of settings"),
        ("distributed_type: MULTI_GPU\nnum_processes: two", 2, "num_processes is a whole number.*got 'two'"),
        ("distributed_type: MULTI_GPU\nnum_machines: 0", 2, "num_machines is a whole number from 1, got 0"),
        (TWO_MACHINES, 2, "no main_process_port where they meet"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: 2", 2, "deepspeed_config is a table.*got 2"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 4}", 2, "stage is 1 to 3 here, got 4"),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2, deepspeed_config_file: ds.json}",
            2,
            "zero_stage cannot stand beside deepspeed_config_file",
        ),
        (
            "distributed_type: DEEPSPEED\nmixed_precision: bf16\n"
            "deepspeed_config: {deepspeed_config_file: ds.json}",
            2,
            "mixed_precision cannot stand beside deepspeed_config_file",
        ),
        (
            "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: nowhere.json}",
            2,
            "'nowhere.json' cannot be read",
        ),
        ("zero4", 2, "Did you mean 'zero3'"),
        (
            "distributed_type: MULTI_GPU\nuse_cpu: true",
            None,
            "no GPU: say how many processes its CPU runs with --processes",
        ),
        ("distributed_type: FSDP", 2, "distributed_type FSDP; supported: MULTI_GPU, DEEPSPEED"),
        ("distributed_type: MULTI_GPU\nmachines: 2", 2, r"no accelerate config.*machines"),
        (
            f"{TWO_MACHINES}\nmain_process_port: 29511",
            3,
            "3 processes do not spread evenly over 2 machines",
        ),
    ],
)
def test_launches_that_cannot_be(accelerate, processes, message, tmp_path):
    name = config_file(tmp_path, accelerate) if ":" in accelerate else accelerate
    with pytest.raises(ConfigurationError, match=message):
        _plan(Launch(name, processes))


def test_a_process_of_a_launch_starts_no_other(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ConfigurationError, match="leave --accelerate out"):
        Launch("ddp", 2).run("train", [], 1.0)


def test_a_file_says_processes_and_port_and_options_win(tmp_path):
    file = config_file(
        tmp_path, "distributed_type: MULTI_GPU\nuse_cpu: true\nnum_processes: 4\nmain_process_port: 29511"
    )
    options, environment = _plan(Launch(file, None))
    assert options[options.index("--num_processes") + 1] == "4" and "--main_process_port" not in options
    assert environment == {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    options, _ = _plan(Launch(file, 2))
    assert options[options.index("--num_processes") + 1] == "2"


def test_the_whole_launch_is_killed_and_nothing_else():
    def sleeper(mark: str, *, session: bool = False) -> subprocess.Popen[bytes]:
        variables = os.environ | {MARK: mark}
        return subprocess.Popen(["sleep", "60"], env=variables, start_new_session=session)

    agent = sleeper("overwritten by a title", session=True)
    of_it, of_another = [agent, sleeper("this"), sleeper("this", session=True)], sleeper("other")
    with ending(*of_it, of_another):
        kill_launch("this", agent.pid)
        assert [process.wait(5) for process in of_it] == [-signal.SIGKILL] * 3
        assert of_another.poll() is None


def test_what_a_launch_starts_while_it_is_killed_is_killed_too(monkeypatch):
    """The first look does not see the second process yet."""
    first, second = (subprocess.Popen(["sleep", "60"], env=os.environ | {MARK: "this"}) for _ in range(2))
    looks = [[psutil.Process(first.pid)], [psutil.Process(second.pid)], []]
    monkeypatch.setattr(psutil, "process_iter", lambda: looks.pop(0))
    with ending(first, second):
        kill_launch("this", 0)
        assert second.wait(5) == first.wait(5) == -signal.SIGKILL


AGENT = """
import subprocess
from gpg_vl.cli.launch import ended_with_the_launcher
command, other = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
with ended_with_the_launcher():
    print(command.pid, other.pid, flush=True)
    command.wait()
"""


def test_an_agent_outlives_its_command_until_all_of_the_launch_is_killed():
    """Its command is killed first, for which it waits: were it to end then, what else there is could stay."""
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {MARK: "this agent"},
        start_new_session=True,
    )
    with ending(agent):
        assert agent.stdin and agent.stdout
        pids = [int(word) for word in agent.stdout.readline().split()]
        agent.stdin.close()
        assert agent.wait(8) == -signal.SIGKILL  # a dead process that nobody reaps is not waited for
    assert len(pids) == 2 and not any(running(pid) for pid in pids)


RANK = "import os, signal, subprocess as s; signal.signal(signal.SIGUSR1, signal.{0}); {1}"
SPAWN = "raise SystemExit(-s.run(['sleep', '60'], env=os.environ | {'LOCAL_RANK': '0'}).returncode + 128)"


@pytest.fixture
def start():
    """An agent with one rank, and a thread that signals this process once the rank is there."""
    agents = []

    def run(answer: str, signals: int) -> subprocess.Popen[bytes]:
        agent = subprocess.Popen([sys.executable, "-c", RANK.format(answer, SPAWN)], start_new_session=True)
        agents.append(agent)
        threading.Thread(target=signal_self, args=(psutil.Process(agent.pid), signals)).start()
        return agent

    yield run
    for agent in agents:
        if agent.poll() is None:
            os.killpg(agent.pid, signal.SIGKILL)
            agent.wait()


def signal_self(agent: psutil.Process, times: int) -> None:
    while not any("LOCAL_RANK" in child.environ() for child in agent.children()):
        time.sleep(0.02)
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)


def test_a_launch_that_does_not_end_in_time_is_given_up(start, capsys):
    assert _wait(start("SIG_IGN", signals=1), grace=0.2) == 1
    assert "within 0.2 seconds (run.shutdown_grace)" in capsys.readouterr().err


def test_a_second_signal_does_not_wait(start):
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _wait(start("SIG_IGN", signals=2), grace=60)
    assert time.monotonic() - before < 30


def test_a_rank_that_is_still_starting_has_nothing_to_save(start):
    with pytest.raises(KeyboardInterrupt):
        _wait(start("SIG_DFL", signals=1), grace=60)


@pytest.mark.parametrize(
    ("codes", "expected", "said"),
    [
        ({0: 2}, 2, ""),
        ({0: 1, 1: 2}, 2, ""),
        ({1: 1}, 1, "rank 1 ended with exit code 1"),
        ({3: -9}, 137, "rank 3 was ended by SIGKILL"),
    ],
)
def test_exit_codes_of_ranks(codes, expected, said, capsys):
    failures = {rank: ProcessFailure(rank, 1, code, "none") for rank, code in codes.items()}
    assert _explain(ChildFailedError("gpg_vl", failures)) == expected
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "stage", "offload"),
    [
        ("ddp", 0, False),
        ("zero1", 1, False),
        ("zero2", 2, False),
        ("zero3", 3, False),
        ("zero3_offload", 3, True),
    ],
)
def test_what_the_memory_forecast_takes_from_a_launch(name, stage, offload):
    assert memory_plan(Launch(name, 8)) == (8, stage, offload)


DEEPSPEED = """
distributed_type: DEEPSPEED
compute_environment: LOCAL_MACHINE
num_processes: {processes}
deepspeed_config: {{deepspeed_config_file: {file}}}
"""


def deepspeed_file(tmp_path: Path, text: str, processes: int = 4) -> Launch:
    (tmp_path / "ds.json").write_text(text)
    own = DEEPSPEED.format(processes=processes, file=tmp_path / "ds.json")
    return Launch(config_file(tmp_path, own), None)


@pytest.mark.parametrize(
    ("zero", "plan"),
    [
        ({"stage": 2, "offload_optimizer": {"device": "cpu"}}, (4, 2, True)),
        ({"stage": 3, "offload_optimizer": {"device": "nvme"}}, (4, 3, True)),
        ({"stage": 1, "offload_optimizer": None}, (4, 1, False)),
        ({"stage": 1, "offload_optimizer": {"device": "none"}}, (4, 1, False)),
    ],
)
def test_the_stage_of_a_deepspeed_file(tmp_path, zero, plan):
    assert memory_plan(deepspeed_file(tmp_path, json.dumps({"zero_optimization": zero}))) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no JSON object"),
        ("{}", "'zero_optimization' must be a table with a stage, got None"),
        (
            '{"zero_optimization": {"stage": 2, "offload_optimizer": "cpu"}}',
            "must be a table with a device, got 'cpu'",
        ),
        ('{"zero_optimization": {"stage": "auto"}}', "ZeRO stage is 1 to 3 here, got 'auto'"),
    ],
)
def test_deepspeed_files_that_say_nothing(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=message):
        memory_plan(deepspeed_file(tmp_path, text))
    (tmp_path / "ds.json").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        memory_plan(Launch(str(tmp_path / "accelerate.yaml"), None))


def test_a_forecast_needs_a_number_of_cards(monkeypatch):
    monkeypatch.setattr("gpg_vl.cli.launch._gpus", lambda: 0)
    with pytest.raises(ConfigurationError, match="say how many cards"):
        memory_plan(Launch("zero2", None))
    monkeypatch.setattr("gpg_vl.cli.launch._gpus", lambda: 8)
    assert memory_plan(Launch("zero2", None)) == (8, 2, False)

"""`--accelerate`: the same command on several processes, and what signals mean to them.

The command starts `gpg_vl.cli.launch_agent` (accelerate's launcher) in a session of its own, so that a Ctrl-C
in the terminal reaches this process alone, and asks the ranks itself: torchrun would kill them after 30
seconds.
"""

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from gpg_vl.cli.launch_file import config_file, read_config, shipped, zero_plan
from gpg_vl.errors import ConfigurationError
from gpg_vl.runtime.shutdown import STOP_SIGNAL, StopRequest

# Heavy imports (torch, transformers) stand inside the commands: `gpg-vl --help` answers at once.

MARK = "GPG_VL_LAUNCH"
"""Environment variable that all processes of a launch, and no others, have with the same value."""

_POLL = 0.1  # seconds
_STDIN = 0
_LOOKS = 100
"""Times to look for what is left, at most: a process may hang in its kernel."""


@dataclass(frozen=True)
class Launch:
    """What `--accelerate` and `--processes` say."""

    accelerate: str
    processes: int | None

    def run(self, command: str, arguments: list[str], grace: float) -> int:
        """Run `gpg-vl COMMAND` on all processes; returns their exit code, 0 for a stop on request too.

        The first SIGINT or SIGTERM asks the ranks to finish their step and save, for which they have `grace`
        seconds; the second raises KeyboardInterrupt. Nothing of the launch outlives this call. Raises
        ConfigurationError for a launch that this machine cannot do.
        """
        if "LOCAL_RANK" in os.environ:
            raise ConfigurationError(
                "--accelerate starts the processes, and this is one of them: leave --accelerate out behind "
                "`accelerate launch` or torchrun"
            )
        options, environment = _plan(self)
        mark = uuid.uuid4().hex
        agent = subprocess.Popen(
            [sys.executable, "-m", "gpg_vl.cli.launch_agent", *options, "-m", "gpg_vl", command, *arguments],
            stdin=subprocess.PIPE,  # closes with this process, however it ends: the agent's sign to end too
            start_new_session=True,
            env=os.environ | environment | {MARK: mark},
        )
        try:
            return _wait(agent, grace)
        finally:
            kill_launch(mark, agent.pid)
            agent.wait()


def launch_options() -> dict[str, str]:
    """The options that start several processes, with their help."""
    names = ", ".join(sorted(shipped()))
    return {
        "accelerate": f"several processes: {names}, or an accelerate config file",
        "processes": "with --accelerate: how many; default: one per GPU",
    }


def add_launch_options(parser: Any) -> None:
    """`--accelerate` and `--processes`, for a command's parser."""
    kinds = {"processes": int}
    for name, text in launch_options().items():
        parser.add_argument(f"--{name}", type=kinds.get(name, str), help=text)


def take_launch_options(arguments: list[str]) -> tuple[Launch | None, list[str]]:
    """The launch that `arguments` ask for, if they do, and the other arguments, for each process."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_launch_options(parser)
    given, others = parser.parse_known_args(arguments)
    if given.accelerate is None:
        if given.processes is not None:
            raise ConfigurationError("--processes needs --accelerate, such as --accelerate ddp")
        return None, others
    if given.processes is not None and given.processes < 1:
        raise ConfigurationError(f"--processes must be at least 1, got {given.processes}")
    return Launch(given.accelerate, given.processes), others


def memory_plan(launch: Launch) -> tuple[int, int, bool]:
    """What decides a card's memory: processes, ZeRO stage (0 is DDP), whether the optimizer is offloaded.

    Any number of processes, also more than this machine has GPUs: it may be asked for another one.
    """
    file = config_file(launch.accelerate)
    config = read_config(file)
    named = config.num_processes if config.num_processes > 0 else _gpus() * config.num_machines
    processes = launch.processes if launch.processes is not None else named
    if processes < 1:
        raise ConfigurationError("this machine has no GPU: say how many cards the run will have: --processes")
    if config.distributed_type != "DEEPSPEED":
        return processes, 0, False
    return processes, *zero_plan(config.deepspeed_config, str(file))


def _plan(launch: Launch) -> tuple[list[str], dict[str, str]]:
    """Options of `accelerate launch`, and what the environment needs beside."""
    file = config_file(launch.accelerate)
    config = read_config(file)
    gpus = 0 if config.use_cpu else _gpus()
    processes = launch.processes or (config.num_processes if config.num_processes > 0 else None)
    if processes is None:
        processes = gpus * config.num_machines
    _check_processes(processes, gpus, config.num_machines)
    local = processes // config.num_machines
    options = ["--config_file", str(file), "--num_processes", str(processes)]
    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, len(os.sched_getaffinity(0)) // local)
        options += ["--num_cpu_threads_per_process", str(threads)]
    if config.num_machines == 1 and config.main_process_port is None:
        options += ["--main_process_port", "0"]  # any free one: two runs may share a machine
    return options, {} if gpus else {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _check_processes(processes: int, gpus: int, machines: int) -> None:
    if processes < 1:
        raise ConfigurationError(
            "this machine has no GPU: say how many processes its CPU runs with --processes"
        )
    if processes % machines:
        raise ConfigurationError(f"{processes} processes do not spread evenly over {machines} machines")
    if gpus and processes // machines > gpus:
        raise ConfigurationError(
            f"{processes // machines} processes on this machine need as many GPUs, and it has {gpus}: lower "
            "--processes"
        )


def _wait(agent: subprocess.Popen[bytes], grace: float) -> int:
    """The agent's exit code, with signals passed on meanwhile."""
    with StopRequest() as stop:
        while not stop.asked:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return _exit_code(agent.wait(_POLL))
        _ask(agent)
        end = time.monotonic() + grace
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = _exit_code(agent.wait(_POLL))
                if code == 128 + STOP_SIGNAL:  # while they started, with nothing to save
                    raise KeyboardInterrupt
                return code
    print(
        f"gpg-vl: the step and its checkpoint were not done within {grace:g} seconds (run.shutdown_grace), "
        "ended all processes; the last checkpoint is kept",
        file=sys.stderr,
    )
    return 1


def _exit_code(returned: int) -> int:
    """The shell's exit code: 128 and the number for a signal."""
    return returned if returned >= 0 else 128 - returned


def _ask(agent: subprocess.Popen[bytes]) -> None:
    """Ask the ranks, and only them, to stop. Raises KeyboardInterrupt where there are none yet."""
    ranks = 0
    for child in psutil.Process(agent.pid).children():
        with contextlib.suppress(psutil.Error):
            if "LOCAL_RANK" in child.environ():
                child.send_signal(STOP_SIGNAL)
                ranks += 1
    if not ranks:
        raise KeyboardInterrupt


def kill_launch(mark: str, session: int) -> None:
    """Kill what is left of a launch, wherever it was reparented to; this process last, if it belongs.

    By its mark, and by its session: a process that gives itself a title, as vLLM's do, overwrites the one,
    and one that makes a session of its own leaves the other.
    """
    for _ in range(_LOOKS):  # what is killed may have started another process meanwhile
        found = [process for process in _launched(mark, session) if process.pid != os.getpid()]
        if not found:
            break
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(_POLL)
    if os.environ.get(MARK) == mark:
        os.kill(os.getpid(), signal.SIGKILL)


def _launched(mark: str, session: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(
            psutil.Error, ProcessLookupError, PermissionError
        ):  # gone, or another user's
            if process.status() == psutil.STATUS_ZOMBIE:  # dead, and no kill removes it
                continue
            if os.getsid(process.pid) == session or process.environ().get(MARK) == mark:
                yield process


@contextlib.contextmanager
def ended_with_the_launcher() -> Iterator[None]:
    """In a launch's own process: all of it is killed once the other end of its input is gone.

    Start before the block what can be: between the last look for what is left and the kill of this process,
    something new would be missed.
    """
    killer = threading.Thread(target=_end_with_the_launcher, daemon=True)
    killer.start()
    try:
        yield
    finally:
        if select.select([_STDIN], [], [], 0)[0]:
            killer.join()  # what the block waited for is killed first, and this process, its killer, last


def _end_with_the_launcher() -> None:
    os.read(_STDIN, 1)  # nobody writes: it returns at the end of the input
    kill_launch(os.environ[MARK], os.getsid(0))

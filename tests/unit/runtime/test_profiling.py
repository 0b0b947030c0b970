"""The table of a run on a GPU, whose ranges carry the names of the CPU's."""

from dataclasses import dataclass
from types import SimpleNamespace

from torch._C._autograd import DeviceType

from gpg_vl.runtime.profiling import TABLE, Profiler


@dataclass
class Event:
    name: str
    start: float
    seconds: float
    cpu_parent: "Event | None" = None
    device_type: DeviceType = DeviceType.CPU

    @property
    def time_range(self):
        return SimpleNamespace(start=self.start, elapsed_us=lambda: self.seconds * 1e6)


def test_a_gpus_ranges_are_not_counted_beside_the_cpus(tmp_path, monkeypatch):
    step = Event("gpg_vl.step", 0, 4)
    forward = Event("gpg_vl.forward", 1, 2, step)
    kernels = [
        Event("gpg_vl.step", 0.5, 9, device_type=DeviceType.CUDA),
        Event("gpg_vl.forward", 1.5, 8, device_type=DeviceType.CUDA),
        Event("gpg_vl.forward", 1.6, 8, step, device_type=DeviceType.CUDA),
    ]
    watched = SimpleNamespace(events=lambda: [step, forward, *kernels], export_chrome_trace=lambda path: None)
    Profiler(tmp_path, 0)._write(watched)
    table = (tmp_path / TABLE).read_text()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:4]]
    assert cells == [["step", "1", "4.0000", "100.0%"], ["· forward", "1", "2.0000", "50.0%"]]
    assert "Means of 1 steps" in table

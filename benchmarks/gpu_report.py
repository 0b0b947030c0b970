"""Tables of what `benchmarks.gpu_session` has written, in Markdown; stages may be missing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stage_process import Figures
from gpg_vl.tables import markdown_table, short_number

_REASON = 200
"""Characters of why a stage failed."""
_LARGEST = 12
"""Kernels of the trace that get a line."""


@dataclass
class Lines:
    """Of one or several files, in their order; later figures of the same name count."""

    read: list[Figures]
    unreadable: int
    """Lines that a process was cut off within."""

    def of(self, *stages: str) -> list[Figures]:
        return [line for line in self.read if line["stage"] in stages]

    def merged(self, *stages: str) -> Figures:
        """All figures of the stages together."""
        figures = [line for line in self.of(*stages) if not is_end(line)]
        return {name: value for line in figures for name, value in line.items()}


def is_end(line: Figures) -> bool:
    """Is it what the session wrote when the stage was over?"""
    return set(line) <= {"stage", "seconds", "failed", "output"}


def read_lines(files: Iterable[Path]) -> Lines:
    """The lines of all files."""
    lines = Lines([], 0)
    for file in files:
        for text in file.read_text(errors="replace").splitlines():
            try:
                lines.read.append(json.loads(text))
            except json.JSONDecodeError:
                lines.unreadable += 1
    return lines


def report(files: Iterable[Path]) -> str:
    """Everything that the files have figures for."""
    lines = read_lines(files)
    sections = {
        "Machine": _machine(lines),
        "Attention, forward and backward: the backend chosen, its first and its second call": _attention(
            lines
        ),
        "Decoding": _decode(lines, "decode", "decode_more"),
        "Decoding with LoRA": _decode(lines, "lora"),
        "Gradient pass": _gradient(lines),
        "Memory and time of whole steps": _steps(lines),
        "Quickstart, shortened": _quickstart(lines),
        "Tests": _tests(lines),
        "Trace of a step": _trace(lines),
        "Stages": _stages(lines),
    }
    parts = [f"**{title}**\n\n{table}" for title, table in sections.items() if table]
    if any(line.get("small") for line in lines.of("session")):
        parts.insert(0, "A tiny model: everything runs, and no figure means anything.")
    if lines.unreadable:
        parts.append(f"Lines that could not be read: {lines.unreadable}.")
    return "\n\n".join(parts)


def _machine(lines: Lines) -> str:
    probes = lines.of("probe")
    machines = [line["machine"] for line in probes if "machine" in line]
    environments = [line["environment"] for line in probes if "environment" in line]
    packages = [made["packages"] for made in environments]
    facts = {
        "card": [f"{it['gpu']}, {_gib(it['gpu_memory'])} GiB" for it in machines if "gpu" in it],
        "processor": [f"{it['cpu']}, {it['cores']} cores" for it in machines],
        "Python": [made["python"] for made in environments],
        "CUDA": [made["cuda"] for made in environments],
        "torch": [made["torch"] for made in packages],
        "transformers": [made["transformers"] for made in packages],
        "commit": [line["commit"] for line in lines.of("session")],
        "copy bandwidth, GB/s": _scaled(probes, "copy bytes/s", 1e9),
        "matrix products, TFLOP/s": _scaled(probes, "matmul FLOP/s", 1e12),
    }
    return _pairs({name: "; ".join(dict.fromkeys(map(str, found))) for name, found in facts.items()})


def _scaled(lines: Iterable[Figures], name: str, unit: float) -> list[str]:
    return [number(line[name] / unit) for line in lines if name in line]


def _attention(lines: Lines) -> str:
    calls = [line["attention"] for line in lines.of("probe") if "attention" in line]
    by_shape: dict[str, dict[bool, Figures]] = {}
    for call in calls:
        by_shape.setdefault(call["shape"], {})[call["cudnn"]] = call
    names = ("backend", "first s", "second s")
    rows = [
        [shape, *(_cell(found.get(cudnn, {}).get(name)) for cudnn in (True, False) for name in names)]
        for shape, found in by_shape.items()
    ]
    heads = ["with cuDNN", "first, s", "second, s", "without", "first, s", "second, s"]
    return _table(["rows x heads x tokens x head size", *heads], rows)


def _decode(lines: Lines, *stages: str) -> str:
    head = ["rows", "path", "tokens/s", "at the floor", "share", "ms a token", "ms in kernels"]
    rows = [_decode_cells(row) for row in decoded(lines, *stages)]
    return _table([*head, "kernels a token", "generate, tokens/s", "ours / generate"], rows)


def decoded(lines: Lines, *stages: str) -> list[Figures]:
    """All figures of each number of rows and way to decode; `generate` is there for comparison."""
    found: dict[tuple[int, str], Figures] = {}
    for line in lines.of(*stages):
        if "rows" in line:
            found.setdefault((line["rows"], line.get("path", "")), {}).update(line)
    plain = {line["rows"]: line for line in lines.of("generate") if "rows" in line}
    in_order = sorted(found.items(), key=lambda item: item[0][0])
    return [plain.get(rows, {}) | row for (rows, _), row in in_order]


def _decode_cells(row: Figures) -> list[str]:
    rate, plain = row.get("tokens/s"), row.get("generate tokens/s")
    theirs = _cell(plain)
    if plain and row["generate rows"] < row["rows"]:
        theirs += f" ({row['generate rows']} rows: out of memory with more)"
    return [
        str(row["rows"]),
        *(_cell(row.get(name)) for name in ("path", "tokens/s", "floor")),
        _percent(row.get("share")),
        *(_cell(row.get(name)) for name in ("ms a token", "kernel ms a token", "kernels a token")),
        theirs,
        _cell(rate / plain if rate and plain else None),
    ]


def _gradient(lines: Lines) -> str:
    names = {"plain": "gradient", "`model.attention` flex": "flex", "`model.compile`": "compiled"}
    passes = {name: lines.merged(stage) for name, stage in names.items()}
    rows = [
        [
            name,
            *(_cell(found[figure]) for figure in ("tokens", "seconds", "tokens/s")),
            number(found["FLOP/s"] / 1e12),
            _percent(found["share of matmul peak"]),
        ]
        for name, found in passes.items()
        if "tokens/s" in found
    ]
    return _table(["", "tokens", "seconds", "tokens/s", "TFLOP/s", "share of the matrix products"], rows)


def _steps(lines: Lines) -> str:
    found = lines.merged("memory")
    step = found.get("step", {})
    facts = {
        "peak of two steps, GiB": _gib(found.get("measured")),
        "its forecast, GiB": _gib(found.get("forecast")),
        "forecast / measured": _cell(found.get("ratio")),
        "third step, s": _cell(step.get("seconds/step")),
        "rollout, s": _cell(step.get("seconds/rollout")),
        "update, s": _cell(step.get("seconds/update")),
        "tokens/s": _cell(step.get("tokens_per_second")),
        "`logprob_gap`, nats a token": _cell(step.get("logprob_gap")),
    }
    return _pairs(facts)


def _quickstart(lines: Lines) -> str:
    found = lines.merged("quickstart")
    facts = {
        "accuracy after the warm start": _percent(found.get("base")),
        "accuracy after GPG": _percent(found.get("trained")),
        "loss of the warm start, first to last": _range(found, "first loss", "last loss"),
        "largest `logprob_gap` of a step": _cell(found.get("largest gap")),
        "seconds by phase": ", ".join(f"{name} {_cell(s)}" for name, s in found.get("phases", {}).items()),
    }
    return _pairs(facts)


def _range(found: Figures, first: str, last: str) -> str:
    return f"{_cell(found[first])} to {_cell(found[last])}" if first in found else ""


def _tests(lines: Lines) -> str:
    """`result` is what the session's first version kept."""
    rows = []
    for name in ("tests", "memory_tests"):
        found = lines.merged(name)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in found.get("outcomes", {}).items())
        if result := counts or found.get("result"):
            rows.append([name, result, "; ".join(found["failures"])])
    return _table(["stage", "result", "failures"], rows)


def _trace(lines: Lines) -> str:
    found = lines.merged("trace")
    facts = {
        "step, s": _cell(found.get("step s")),
        "in kernels, s": _cell(found.get("kernel s")),
        "kernels": _cell(found.get("kernels")),
        "file": found.get("trace", ""),
    }
    largest = list(found.get("largest", {}).items())[:_LARGEST]
    rows = [[f"`{name}`", _cell(own["calls"]), _cell(own["ms"])] for name, own in largest]
    tables = [_pairs(facts), _table(["kernel", "calls", "ms"], rows)]
    return "\n\n".join(table for table in tables if table)


def _stages(lines: Lines) -> str:
    """What became of each; of a stage that ran several times, the last time."""
    planned = [name for line in lines.of("session") for name in line.get("stages", [])]
    names = dict.fromkeys([*planned, *(line["stage"] for line in lines.read if line["stage"] != "session")])
    return _table(["stage", "seconds", "result"], [[name, *_ending(lines.of(name))] for name in names])


def _ending(lines: Sequence[Figures]) -> tuple[str, str]:
    if not lines:
        return "", "not run"
    last = lines[-1]
    if not is_end(last):
        return "", "cut off, what it measured is kept"
    result = f"failed: {_shortened(last['failed'])}" if "failed" in last else "done"
    return _cell(last.get("seconds")), result


def _shortened(reason: str) -> str:
    """Its first line and its last one."""
    first, *others = reason.strip().splitlines() or [""]
    ends = [first, *others[-1:]]
    return " … ".join(end if len(end) <= _REASON else f"{end[:_REASON]} …" for end in ends)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(head, rows) if rows else ""


def _pairs(facts: Mapping[str, str]) -> str:
    """Those that are known, one a line."""
    return _table(["", ""], [[name, value] for name, value in facts.items() if value])


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, int | float) else str(value or "")


def number(value: float) -> str:
    """Four significant digits; thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1000 else short_number(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"


def _gib(value: float | None) -> str:
    return "" if value is None else number(value / 2**30)

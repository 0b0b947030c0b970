"""Preflight's memory forecast: does it fit the card, and what to change if it does not."""

from gpg_vl.preflight.cures import changes, gib, remedies
from gpg_vl.preflight.findings import Finding, Level, Report
from gpg_vl.preflight.memory import OPTIMIZER_STEP, Forecast
from gpg_vl.preflight.plan import ROOM, Plan

_SHOWN = 0.02
"""Share of the peak from which a part is named."""


def check_memory(report: Report, plan: Plan) -> None:
    """One line per phase; the fullest one says what to change where it does not fit."""
    found, tokens = plan.forecast()
    machine, kind = plan.machine, "bf16" if plan.bf16 else "fp32"
    stage = f", ZeRO-{machine.zero}" if machine.zero else ""
    cards = f"{machine.processes} card{'s' if machine.processes > 1 else ''}{stage}, {kind}"
    for phase in found.phases:
        level, cure = _level(plan, found.total(phase)), ""
        if phase == found.fullest:
            cure = _cure(plan, found)
        words = "1 token" if tokens[phase] == 1 else f"{tokens[phase]} tokens"
        length = "" if phase == OPTIMIZER_STEP else f", answers of {words}"
        text = f"{gib(found.total(phase))} GiB a card ({cards}{length}): {_parts(found, phase)}"
        report.add([Finding(f"memory, {phase}", level, text, cure)])
    phases = {phase: {"total": found.total(phase), **found.phases[phase]} for phase in found.phases}
    report.figures["memory"] = {"peak": found.peak, "always": dict(found.states), "phases": phases}


def _parts(found: Forecast, phase: str) -> str:
    parts = {**found.states, **found.phases[phase]}
    named = {name: size for name, size in parts.items() if size >= _SHOWN * found.total(phase)}
    return ", ".join(f"{name} {gib(size)}" for name, size in named.items())


def _level(plan: Plan, size: float) -> Level:
    """Whether so many bytes fit a card."""
    capacity = plan.machine.capacity
    if capacity is None or size <= ROOM * capacity:
        return "ok"
    return "fail" if size > capacity else "warn"


def _cure(plan: Plan, found: Forecast) -> str:
    """What to change so that the fullest phase fits."""
    capacity = plan.machine.capacity
    if capacity is None:
        return "--card_gib N compares this with a card"
    if found.peak <= ROOM * capacity:
        return ""
    peaks = ((words, changed.forecast()[0].peak) for words, changed in changes(plan))
    return f"a card has {gib(capacity)} GiB; {remedies(peaks, found.peak, capacity)}"

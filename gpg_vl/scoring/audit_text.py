"""The audit in words."""

import math
from textwrap import indent

from gpg_vl.scoring.asking import ProbeOutcome
from gpg_vl.scoring.audit import Audit, Finding
from gpg_vl.tables import markdown_table, short_number, short_text

_DETAILED = 5
"""Problems told in full; the table has them all."""
_SHOWN = 120
"""Characters of a probe's text."""


def audit_text(audit: Audit) -> str:
    """The verdict on one reward or sum: a table of all probes, then what went wrong in full."""
    columns = ("lowest", "highest") if audit.kind == "shaping" else ("score", "gold scores")
    header = ("completion", "samples", *columns, "slowest, ms", "verdict")
    parts = [
        _title(audit),
        markdown_table(header, [_row(audit, finding) for finding in audit.findings]),
        *map(_problem, audit.problems[:_DETAILED]),
        *(f"note: {note}" for note in audit.notes),
        _verdict(audit),
    ]
    return "\n\n".join(parts)


def _title(audit: Audit) -> str:
    title = f"{audit.title} ({audit.kind}): {audit.graded} of {audit.samples} samples audited"
    if not audit.left_out:
        return title
    return f"{title}; no gold answer of type {', '.join(audit.left_out)} scores higher than anything"


def _row(audit: Audit, finding: Finding) -> tuple[str, ...]:
    if audit.kind == "shaping":
        totals = finding.totals or (math.nan,)
        figures = min(totals), max(totals)
    else:
        figures = finding.outcome.total, finding.gold.total
    return (
        finding.outcome.probe,
        str(finding.samples),
        *map(short_number, figures),
        f"{1000 * finding.seconds:.1f}",
        "FAILS" if finding.problem else "ok",
    )


def _problem(finding: Finding) -> str:
    outcome, gold = finding.outcome, finding.gold
    lines = [
        f"FAILS: {outcome.probe}, on sample {outcome.sample.id!r} (gold answer {outcome.sample.answer!r})",
        indent(finding.problem, "  "),
        f"  text: {short_text(outcome.completion.text, _SHOWN)}",
    ]
    if not outcome.error:
        lines.append(f"  scores {_made_of(outcome)}; the gold answer {_made_of(gold)}")
    return "\n".join(lines)


def _made_of(outcome: ProbeOutcome) -> str:
    """The total, and what it is the sum of."""
    total = short_number(outcome.total)
    if len(outcome.parts) < 2:
        return total
    return f"{total} ({', '.join(f'{name} {short_number(score)}' for name, score in outcome.parts.items())})"


def _verdict(audit: Audit) -> str:
    if audit.stopped:
        return f"failed: stopped, for {audit.stopped}; the rest was not asked. Raise it, or mend the reward."
    if not audit.problems:
        return "passed: " + (
            "every score is finite and fast"
            if audit.kind == "shaping"
            else "no trick scores as high as the gold answer"
        )
    return (
        f"failed: {len(audit.problems)} of {len(audit.findings)} completions. Not meant for such samples? "
        "Return None for them, or choose others with --answer_type or --data."
    )

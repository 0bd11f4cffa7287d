"""How findings are told: to people, and to programs."""

from collections import Counter

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from msp_cli.doctor.findings import Finding, Level

PAGE = "docs/TROUBLESHOOTING.md"

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red", Level.UNKNOWN: "magenta"}
_GRAVEST_LAST = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.PROBLEM)


class Findings(BaseModel):
    """What `--json` prints."""

    findings: list[Finding]
    exit_code: int


def show(findings: list[Finding], console: Console) -> None:
    """All findings, what is worst at the end, where people look."""
    for finding in in_order(findings):
        line = Text(f"{finding.level.value:8}", style=_STYLES[finding.level])
        line.append(f" {finding.code.value}: {finding.what}", style="default")
        console.print(line, soft_wrap=True, highlight=False)
        if finding.remedy:
            console.print(f"         → {finding.remedy}", soft_wrap=True, highlight=False, markup=False)
    console.print(summary(findings), soft_wrap=True, highlight=False, markup=False)


def as_text(findings: list[Finding]) -> str:
    """The same, for a file."""
    lines = []
    for finding in in_order(findings):
        lines.append(f"{finding.level.value:8} {finding.code.value}: {finding.what}")
        if finding.remedy:
            lines.append(f"         → {finding.remedy}")
    return "\n".join([*lines, summary(findings)]) + "\n"


def in_order(findings: list[Finding]) -> list[Finding]:
    """By level, the gravest last; within a level as they were found."""
    return sorted(findings, key=lambda finding: _GRAVEST_LAST.index(finding.level))


def summary(findings: list[Finding]) -> str:
    """How many of each, and where more is said."""
    counted = Counter(finding.level for finding in findings)
    parts = [
        f"{counted[Level.PROBLEM]} problem(s)",
        f"{counted[Level.WARNING]} warning(s)",
        f"{counted[Level.UNKNOWN]} not checked",
        f"{counted[Level.OK]} well",
    ]
    more = f"; {PAGE} has a section for each name" if counted[Level.PROBLEM] + counted[Level.WARNING] else ""
    return ", ".join(parts) + more

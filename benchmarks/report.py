"""What every benchmark reports, and how busy the machine was with other work meanwhile."""

import argparse
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Report:
    """One run. `ratios` are ours over the peer's, in the same run: the figures to quote."""

    name: str
    ratios: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    """Absolute figures, with the unit in the name: for orientation only."""
    peers: dict[str, str] = field(default_factory=dict)
    """Peer → version."""
    cpus: int = field(default_factory=lambda: os.cpu_count() or 1)
    foreign_cores: float = 0.0
    """Cores that others used during the run; above 0.1 the run is worth little."""


def arguments(description: str) -> argparse.Namespace:
    """`--quick` and `--json FILE`, which all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    return parser.parse_args()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that all benchmarks take, beside those of one."""
    parser.add_argument("--quick", action="store_true", help="a short form, for a look rather than a figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")


class Busyness:
    """Measures foreign work from its making on. Own work is this process and its ended children."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._machine = self._machine_busy_s()
        self._own = self._own_s()

    @staticmethod
    def _machine_busy_s() -> float:
        user, nice, system, _idle, _iowait, irq, softirq = (
            int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
        )
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own_s() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in usages)

    def foreign_cores(self) -> float:
        """Mean number of cores that other processes used. Call it after the children were waited for."""
        foreign = (self._machine_busy_s() - self._machine) - (self._own_s() - self._own)
        return max(0.0, foreign / (time.monotonic() - self._wall))


def publish(report: Report, file: Path | None) -> None:
    """Print the report as a table, and write it as JSON where asked."""
    lines = [f"{report.name}: {report.cpus} processors, {report.foreign_cores:.2f} used by others"]
    lines += [f"  peer {name} {version}" for name, version in report.peers.items()]
    lines += [f"  {name:<42} {value:>10.3f}" for name, value in (report.figures | report.ratios).items()]
    sys.stdout.write("\n".join(lines) + "\n")
    if file:
        file.write_text(json.dumps(asdict(report), indent=1) + "\n")

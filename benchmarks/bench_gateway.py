"""The gateway beside nginx, which does nothing but relay, on one core each; other gateways with --peers.

Load generator and upstream are programs of our own in C (wire/) on another core; they handle several times
what nginx does, so that a gateway is never measured by what asks it. The gateway and those that rest while
nobody asks take turns, phase by phase and in several rounds, because a virtual machine's speed changes within
seconds; what is reported are medians of the rounds, and of their ratios. The others run alone, in one round.
Quote the ratios, of a run with `foreign_cores` below 0.1.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median

from gateway_phases import ONCE, PHASES, Figures
from gateway_targets import Runs, Target, our_gateway, peers
from report import Busyness, Report, add_arguments, publish
from wire_tools import Upstream, upstream

ROUNDS = 5
RESTING = ("nginx", "vllm-router", "smg", "sglang-router")
"""Cost nothing while nobody asks."""

# Larger is better for these; for all other figures smaller is.
COMPARED = (
    "c=1, requests/s",
    "c=16, requests/s",
    "c=64, requests/s",
    "c=256, requests/s",
    "c=16, processor us per request",
    "added p50 ms",
    "added p99 ms",
    "processor us per event",
    "event delay p50 ms",
    "KiB per open stream",
    "1 MiB body, processor ms per request",
)


def in_turns(gateways: Mapping[str, Runs], phases: Sequence[str], quick: bool) -> dict[str, list[Figures]]:
    """All figures of these gateways, round by round; all run at the same time, from here to the end."""
    rounds = ROUNDS if len(gateways) > 1 else 1
    figures: dict[str, list[Figures]] = {name: [{} for _ in range(rounds)] for name in gateways}
    with ExitStack() as running:
        targets: dict[str, tuple[Target, Upstream]] = {}
        for name, runs in gateways.items():
            model = running.enter_context(upstream())
            targets[name] = running.enter_context(runs(model.port)), model
        for number in range(rounds):
            for phase in phases:
                for name, (target, model) in targets.items():
                    if number == 0 or phase not in ONCE:
                        figures[name][number] |= PHASES[phase](target, model, quick)
    return figures


def medians(rounds: Sequence[Figures]) -> Figures:
    return {
        what: median([figures[what] for figures in rounds if what in figures])
        for what in dict.fromkeys(what for figures in rounds for what in figures)
    }


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Figures:
    """Medians of ours over theirs, of each round where both were measured in turns."""
    if len(theirs) == 1:
        ours = [medians(ours)]
    pairs = list(zip(ours, theirs, strict=True))
    return medians([{what: a[what] / b[what] for what in COMPARED if b.get(what)} for a, b in pairs])


def run(quick: bool, others: bool, phases: list[str], python: str) -> Report:
    report = Report("gateway")
    found, report.peers = peers(others=others)
    report.peers["the gateway's Python"] = subprocess.run(
        [python, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    busyness = Busyness()
    ours: Runs = partial(our_gateway, python=python)
    beside = {name: found.pop(name) for name in RESTING if name in found}
    results = in_turns({"gateway": ours, **beside}, phases, quick)
    for name, runs in found.items():
        results |= in_turns({name: runs}, phases, quick)
    report.foreign_cores = busyness.foreign_cores()
    for name, rounds in results.items():
        report.figures |= {f"{name}, {what}": value for what, value in medians(rounds).items()}
        if name != "gateway":
            ratio = ratios(results["gateway"], rounds)
            report.ratios |= {f"{what}, gateway / {name}": value for what, value in ratio.items()}
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--peers", action="store_true", help="also other gateways, where installed")
    parser.add_argument("--only", help=f"phases, separated by commas, of: {', '.join(PHASES)}")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="what runs the gateway: an interpreter of the same version, such as the system's, which is "
        "built with optimisations as that of the images is",
    )
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen = options.only.split(",") if options.only else list(PHASES)
    publish(run(options.quick, options.peers, chosen, options.python), options.json)

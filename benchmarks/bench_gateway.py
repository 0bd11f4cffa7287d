"""The gateway beside nginx, which does nothing but relay, on one core each; other gateways with --peers.

Load generator and upstream are programs of our own in C (wire/) on another core; they handle several times
what nginx does, so that a gateway is never measured by what asks it. Quote the ratios, of a run with
`foreign_cores` below 0.1; processor time per request or event is the steadiest figure.
"""

import argparse
import resource
import subprocess
import sys
from functools import partial

from gateway_phases import PHASES, Figures
from gateway_targets import Runs, our_gateway, peers
from report import Busyness, Report, add_arguments, publish
from wire_tools import Upstream, upstream

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


def measure(runs: Runs, model: Upstream, phases: list[str], quick: bool) -> Figures:
    """All figures of one gateway, which is started and ended here."""
    figures: Figures = {}
    with runs(model.port) as target:
        for phase in phases:
            figures |= PHASES[phase](target, model, quick)
    return figures


def run(quick: bool, others: bool, phases: list[str], python: str) -> Report:
    report = Report("gateway")
    found, report.peers = peers(others=others)
    report.peers["the gateway's Python"] = subprocess.run(
        [python, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    busyness = Busyness()
    results: dict[str, Figures] = {}
    ours: Runs = partial(our_gateway, python=python)
    for name, runs in {"gateway": ours, **found}.items():
        with upstream() as model:
            results[name] = measure(runs, model, phases, quick)
    report.foreign_cores = busyness.foreign_cores()
    for name, figures in results.items():
        report.figures |= {f"{name}, {what}": value for what, value in figures.items()}
        if name != "gateway":
            report.ratios |= {
                f"{what}, gateway / {name}": results["gateway"][what] / figures[what]
                for what in COMPARED
                if figures.get(what)
            }
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

"""The gateway beside nginx, which does nothing but relay, on one core each; other gateways with --peers.

Load generator and upstream are programs of our own in C (wire/) on another core; they handle several times
what nginx does, so that a gateway is never measured by what asks it. Quote the ratios, of a run with
`foreign_cores` below 0.1; processor time per request or event is the steadiest figure.
"""

import argparse
import resource

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


def run(quick: bool, others: bool, phases: list[str]) -> Report:
    report = Report("gateway")
    found, report.peers = peers(others=others)
    busyness = Busyness()
    results: dict[str, Figures] = {}
    for name, runs in {"gateway": our_gateway, **found}.items():
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
    parser.add_argument("--peers", action="store_true", help="also LiteLLM and vllm-router, where installed")
    parser.add_argument("--only", help=f"phases, separated by commas, of: {', '.join(PHASES)}")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen = options.only.split(",") if options.only else list(PHASES)
    publish(run(options.quick, options.peers, chosen), options.json)

"""A real Prometheus with the shipped files scrapes a real cluster: every panel and every alert finds data."""

import json
import math
import re
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pytest
import yaml

from support.platform_processes import REPOSITORY, eventually
from support.prometheus_process import Prometheus, running_prometheus
from support.watched_cluster import WatchedCluster, watched_cluster

MONITORING = REPOSITORY / "monitoring"
BOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))
# What Grafana fills in for a data source that is scraped every 15 s, and for `All`.
FILLED_IN = {"$__rate_interval": "1m", "$model": ".*", "$host": ".*"}
SELECTOR = re.compile(r"\b(?:msp_|process_|prometheus_)\w+(?:\{[^}]*\})?|\bup(?:\{[^}]*\})?")
# For speed alone: scrapes and rules every 2 s instead of 15.
FASTER = {"scrape_timeout: 10s": "scrape_timeout: 2s", ": 15s": ": 2s"}
PATIENCE_S = 90

Watched = tuple[WatchedCluster, Prometheus]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The cluster after traffic and troubles, all of it scraped."""
    folder = tmp_path_factory.mktemp("watched")
    with watched_cluster(folder) as cluster:
        here = {"http://service-registry:8081": cluster.service_registry.url, **FASTER}
        with running_prometheus(folder, MONITORING, here) as prometheus:
            eventually("all is scraped", lambda: len(scraped(prometheus)) == 9, PATIENCE_S)
            # A rate needs two values that differ: what is born with its first count has none yet.
            for _ in range(2):
                cluster.ordinary_traffic()
                cluster.queueing()
                wait_for_scrapes(prometheus, 1)
            cluster.troubles()
            wait_for_scrapes(prometheus, 2)
            yield cluster, prometheus


def scraped(prometheus: Prometheus) -> dict[str, float]:
    """Target → when it was last read, for those that answer."""
    return {
        f"{t['labels']['job']} {t['labels']['instance']}": seconds(t["lastScrape"])
        for t in prometheus.targets()
        if t["health"] == "up"
    }


def seconds(moment: str) -> float:
    """Prometheus writes nanoseconds, of which Python reads six digits."""
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", moment)).timestamp()


def wait_for_scrapes(prometheus: Prometheus, count: int) -> None:
    """Until everything that answers was read so many times more."""

    def read_since(moment: float, names: set[str]) -> bool:
        return all(at > moment for name, at in scraped(prometheus).items() if name in names)

    for _ in range(count):
        again = partial(read_since, time.time(), set(scraped(prometheus)))
        eventually("all is scraped again", again, PATIENCE_S)


def panels() -> Iterator[Any]:
    for path in BOARDS:
        whole = json.loads(path.read_text())
        for panel in whole["panels"]:
            for number, target in enumerate(panel.get("targets", [])):
                name = f"{path.stem}-{panel['title']}-{number}"
                yield pytest.param(target["expr"], target["legendFormat"], id=name)
        for variable in whole["templating"]["list"]:
            metric, label = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["query"]["query"])[0]
            yield pytest.param(metric, f"{{{{{label}}}}}", id=f"{path.stem}-${variable['name']}")


def alert_selectors() -> list[str]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return sorted({s for group in groups for rule in group["rules"] for s in SELECTOR.findall(rule["expr"])})


def test_prometheus_finds_every_program_and_worker(watched: Watched) -> None:
    _, prometheus = watched
    found = sorted((t["labels"]["job"], t["labels"].get("worker", "")) for t in prometheus.targets())
    workers = ["brittle-0", "brittle-1", "chat", "embedding", "transcription"]
    assert found == sorted(
        [("gateway", ""), ("prometheus", ""), ("registry", ""), ("service-registry", "")]
        + [("worker", worker) for worker in workers]
    )


@pytest.mark.parametrize(("expression", "legend"), list(panels()))
def test_every_query_of_a_dashboard_finds_data(watched: Watched, expression: str, legend: str) -> None:
    _, prometheus = watched
    for name, value in FILLED_IN.items():
        expression = expression.replace(name, value)
    now = time.time()
    series = prometheus.query_range(expression, now - 60, now, 1)
    values = [float(value) for one in series for _, value in one["values"]]
    assert any(math.isfinite(value) for value in values), f"{expression}: {series}"
    for label in re.findall(r"\{\{(\w+)\}\}", legend):
        assert any(one["metric"].get(label) for one in series), f"{expression} has no {label}"


@pytest.mark.parametrize("selector", alert_selectors())
def test_everything_that_an_alert_asks_for_is_measured(watched: Watched, selector: str) -> None:
    _, prometheus = watched
    assert prometheus.query(f"last_over_time({selector}[5m])"), selector


def test_what_happened_to_the_cluster_sets_off_the_alerts_for_it(watched: Watched) -> None:
    _, prometheus = watched
    at_once = {"AnswersBreakOff", "GpuXid", "GpuMemoryErrors"}
    eventually("alerts fire", lambda: at_once <= prometheus.firing(), PATIENCE_S)

"""Dashboards ask only for what our programs measure, and nothing is asked of the internet."""

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
MONITORING = REPOSITORY / "monitoring"
PANEL_TYPES = {"row", "stat", "table", "timeseries", "bargauge", "state-timeline"}
"""Of Grafana's own; news and text with pictures would ask the internet."""
BOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))
DATASOURCE = "msp-prometheus"

# What Prometheus itself tells of, and its labels.
PROMETHEUS_TELLS = {
    "up": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
}
METRIC = r"\b((?:msp|process|prometheus)_\w+|up|ALERTS)\b"

# What Prometheus adds to every series: its own, and the service registry's `/targets`.
TARGET_LABELS = {"job", "instance", "worker", "model", "model_type"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
GROUPED = r"\b(?:by|without)\s*\(([^)]*)\)"


def board(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(path.read_text())
    return parsed


def queries(path: Path) -> Iterator[tuple[str, str]]:
    """(Panel's title, PromQL) of every query, those behind the variables too."""
    whole = board(path)
    for panel in whole["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in whole["templating"]["list"]:
        ((metric, label),) = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["query"]["query"])
        yield variable["name"], f"sum by ({label}) ({metric})"


def selections(expression: str) -> Iterator[tuple[str, set[str]]]:
    """(Metric, labels that are matched) of every selector."""
    bare = re.sub(GROUPED, "", expression)
    for metric, matchers in re.findall(METRIC + r"(?:\{([^}]*)\})?", bare):
        yield metric, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Sample name → its labels, of all four programs as they register their metrics."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        openapi_apps = import_module("docs_sources").openapi_apps
        labels_of = import_module("generate_docs")._labels
    finally:
        sys.path.pop(0)
    found = {name: set(labels) for name, labels in PROMETHEUS_TELLS.items()}
    for app in openapi_apps().values():
        metrics = app.state.metrics
        for family in metrics.collect():
            labels = {*labels_of(metrics, family.name), *(["le"] if family.type == "histogram" else [])}
            for suffix in SUFFIXES.get(family.type, ("",)):
                found.setdefault(family.name + suffix, set()).update(labels)
    return found


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_every_metric_of_a_dashboard_is_exported(path: Path, exported: dict[str, set[str]]) -> None:
    asked = {metric for _, expression in queries(path) for metric, _ in selections(expression)}
    assert asked
    assert asked - exported.keys() == set()


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_every_label_of_a_dashboard_is_one_of_its_metrics(path: Path, exported: dict[str, set[str]]) -> None:
    for title, expression in queries(path):
        selected = list(selections(expression))
        for metric, matched in selected:
            assert matched <= exported[metric] | TARGET_LABELS, f"{title}: {expression}"
        known = TARGET_LABELS.union(*(exported[metric] for metric, _ in selected))
        for grouped in re.findall(GROUPED, expression):
            assert {label.strip() for label in grouped.split(",")} <= known, f"{title}: {expression}"


def test_alerts_ask_for_metrics_and_labels_that_are_exported(exported: dict[str, set[str]]) -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        selected = list(selections(rule["expr"]))
        assert selected, rule["alert"]
        for metric, matched in selected:
            assert matched <= exported.get(metric, set()) | TARGET_LABELS, f"{rule['alert']}: {metric}"
        known = TARGET_LABELS.union(*(exported[metric] for metric, _ in selected))
        named = [*re.findall(GROUPED, rule["expr"]), ",".join(re.findall(r"\$labels\.(\w+)", str(rule)))]
        labels = {label.strip() for group in named for label in group.split(",")} - {""}
        assert labels <= known, rule["alert"]


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_legends_name_labels_that_are_left_after_grouping(path: Path, exported: dict[str, set[str]]) -> None:
    for panel in board(path)["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            groups = [{part.strip() for part in g.split(",")} for g in re.findall(GROUPED, expression)]
            left = TARGET_LABELS.union(*(exported[metric] for metric, _ in selections(expression)))
            for group in groups:
                left &= group
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert named <= left, f"{panel['title']}: {target['legendFormat']}"


def test_dashboards_are_those_that_were_asked_for_and_keep_their_addresses() -> None:
    assert {path.stem: board(path)["uid"] for path in BOARDS} == {
        "overview": "msp-overview",
        "gateway": "msp-gateway",
        "workers": "msp-workers",
        "gpus": "msp-gpus",
    }


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_panels_have_places_of_their_own_and_ask_the_provisioned_prometheus(path: Path) -> None:
    panels = board(path)["panels"]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
    asked = {str(t["datasource"]["uid"]) for p in panels for t in p.get("targets", [])}
    assert asked == {DATASOURCE}
    assert "http" not in path.read_text()


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_panels_say_what_they_show_and_need_no_plugin(path: Path) -> None:
    for panel in board(path)["panels"]:
        assert panel["type"] in PANEL_TYPES, panel["title"]
        assert panel["title"]
        if panel["type"] not in ("row", "table"):
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults.get("unit") or defaults.get("mappings"), panel["title"]


def test_what_grafana_is_given_fits_together() -> None:
    provisioning = MONITORING / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/platform.yml").read_text())["providers"]
    grafana = yaml.safe_load((REPOSITORY / "docker-compose.monitoring.yml").read_text())["services"][
        "grafana"
    ]
    assert source["uid"] == DATASOURCE
    assert source["url"] == "http://prometheus:9090"
    folder = provider["options"]["path"]
    assert f"./monitoring/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/overview.json"


def test_grafana_asks_the_internet_for_nothing() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.monitoring.yml").read_text())
    told = compose["services"]["grafana"]["environment"]
    for name in ("PLUGINS_PREINSTALL", "PLUGINS_PUBLIC_KEY_RETRIEVAL"):
        assert told[f"GF_{name}_DISABLED"] == "true", name
    assert told["GF_SECURITY_DISABLE_GRAVATAR"] == "true"
    for name in (
        "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
        "ANALYTICS_ENABLED",
        "CLOUD_MIGRATION_ENABLED",
        "ANALYTICS_CHECK_FOR_UPDATES",
        "ANALYTICS_REPORTING_ENABLED",
        "NEWS_NEWS_FEED_ENABLED",
        "PLUGINS_PLUGIN_ADMIN_ENABLED",
        "SNAPSHOTS_EXTERNAL_ENABLED",
    ):
        assert told[f"GF_{name}"] == "false", name


def test_prometheus_learns_of_workers_from_the_service_registry() -> None:
    platform, itself = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert platform["http_sd_configs"][0]["url"] == "http://service-registry:8081/targets"
    assert itself["static_configs"] == [{"targets": ["127.0.0.1:9090"]}]


def test_prometheus_is_given_every_file_that_its_configuration_names() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.monitoring.yml").read_text())
    mounted = compose["services"]["prometheus"]["volumes"]
    rules = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["rule_files"]
    for name in ("prometheus.yml", *rules):
        assert (MONITORING / name).is_file()
        assert f"./monitoring/{name}:/etc/prometheus/{name}:ro" in mounted


def test_the_stand_in_image_of_the_tests_has_the_tag_that_is_shipped() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.monitoring.yml").read_text())
    shipped = re.findall(r":-(.*)\}", compose["services"]["prometheus"]["image"])
    assert (
        re.findall(r"^prometheus_image=(.*)$", (REPOSITORY / ".ci/provision.sh").read_text(), re.M) == shipped
    )

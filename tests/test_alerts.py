"""The shipped alerts fire at what they are for and at nothing else, by Prometheus's own test tool."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.prometheus_process import promtool

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = REPOSITORY / "monitoring"
CASES: list[dict[str, Any]] = yaml.safe_load((REPOSITORY / "tests/monitoring/alert_cases.yml").read_text())
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


def every_of(case: dict[str, Any]) -> str:
    """Time between two samples."""
    return str(case.get("every", "1m"))


def as_promtool_wants_it(case: dict[str, Any]) -> dict[str, Any]:
    """One test group: at `quiet` nothing fires, at `fires` one alert does, with these labels and texts."""
    rule = RULES[case["alert"]]
    expected = {
        "exp_labels": {**case.get("labels", {}), **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "summary": case.get("summary")},
    }
    moments = [(case[when], when) for when in ("quiet", "fires") if when in case]
    return {
        "interval": every_of(case),
        "input_series": [{"series": name, "values": told} for name, told in case["series"].items()],
        "alert_rule_test": [
            {
                "alertname": case["alert"],
                "eval_time": moment,
                "exp_alerts": [expected] if when == "fires" else [],
            }
            for moment, when in moments
        ],
    }


def test_every_alert_fires_at_its_cases_and_not_before(tmp_path: Path) -> None:
    # Rules are looked at as often as there are samples, which promtool wants to know once for a file.
    for every in {every_of(case) for case in CASES}:
        tests = {
            "rule_files": [str(SHIPPED / "alerts.yml")],
            "evaluation_interval": every,
            "tests": [as_promtool_wants_it(case) for case in CASES if every_of(case) == every],
        }
        (tmp_path / f"{every}.yml").write_text(yaml.safe_dump(tests, allow_unicode=True))
    done = promtool("test", "rules", *tmp_path.glob("*.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    for when in ("quiet", "fires"):
        assert {case["alert"] for case in CASES if when in case} == set(RULES), when


def test_prometheus_takes_the_shipped_files() -> None:
    for done in (
        promtool("check", "config", SHIPPED / "prometheus.yml"),
        promtool("check", "rules", "--lint=all", "--lint-fatal", SHIPPED / "alerts.yml"),
    ):
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(RULES)} rules found" in done.stdout


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_how_bad_it_is_what_to_do_and_where_to_read_on(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    # It stands in a table of the documentation, where nothing fills in a template.
    assert "{{" not in told["description"]
    page, _, anchor = told["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.*)$", (REPOSITORY / page).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}

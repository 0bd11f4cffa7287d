"""The table of alerts in the documentation: what monitoring/alerts.yml says for people."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).resolve().parents[1] / "monitoring/alerts.yml"


def alert_table(_: str) -> Iterator[str]:
    """One row per alert, in the file's order."""
    yield "| alert | severity | after | what it means, and what to do |"
    yield "|---|---|---|---|"
    groups: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        told = rule["annotations"]
        meaning = told["description"].replace("|", "\\|")
        where = told["runbook_url"].removeprefix("docs/")
        yield (
            f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule.get('for', 'at once')} "
            f"| {meaning} [More]({where.removeprefix('operations.md')}) |"
        )

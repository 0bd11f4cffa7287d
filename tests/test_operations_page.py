"""What docs/operations.md says by hand agrees with the code: failures, metrics, settings, example files."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from msp_gateway.failures import JUDGEMENTS, Happened
from msp_gateway.keys.file_store import FileKeyStore
from msp_gateway.routing_rules import RoutingRules
from msp_service_registry.external.file import WorkersFile

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "scripts"))
from docs_sources import settings_classes  # noqa: E402

PAGE = (REPOSITORY / "docs/operations.md").read_text()
PAGES = sorted({*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("*/README.md")})
METRIC = re.compile(r"\bmsp_(?:gateway|worker|gpu|registry|service_registry)_\w+")
METRIC_ROW = re.compile(r"^\| `(msp_\w+)` \| (\w+) \| (.*?) \| .* \|$", re.MULTILINE)
SETTING = re.compile(r"\b(?:GATEWAY|SERVICE_REGISTRY)_[A-Z][A-Z_]*[A-Z]\b")


def known_metrics() -> dict[str, set[str]]:
    """Metric → its labels, from the generated tables, which another test compares with the code."""
    known: dict[str, set[str]] = {}
    for name, kind, labels in METRIC_ROW.findall(PAGE):
        known[name] = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            for suffix in ("_bucket", "_sum", "_count"):
                known[name + suffix] = known[name] | {"le"}
    return known


def yaml_blocks() -> list[dict[str, object]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def block_with(key: str) -> dict[str, object]:
    return next(block for block in yaml_blocks() if key in block)


def first_cells(section: str, heading: str) -> list[str]:
    """What the first column of the table under this head row names."""
    table = section.split(heading, 1)[1].split("\n\n", 1)[0]
    return [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]


@pytest.mark.parametrize("heading", ["| `what` | what happened |", "| `what` | the client sees |"])
def test_the_failure_tables_have_each_row_of_the_judgements_once(heading: str) -> None:
    assert set(JUDGEMENTS) == set(Happened)
    assert sorted(first_cells(PAGE, heading)) == sorted(what.value for what in JUDGEMENTS)


def test_the_failure_table_says_whom_a_failure_counts_against_and_who_is_asked_next() -> None:
    rows = {line.split("`")[1]: line for line in PAGE.splitlines() if re.match(r"\| `\w+` \|.*'s \|", line)}
    for what, judgement in JUDGEMENTS.items():
        counts = "no" if judgement.report is None else f"yes, as `{judgement.report}`"
        assert rows[what].endswith(f"| {counts} | {judgement.retry.value} |")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_metrics_that_pages_name_exist(page: Path) -> None:
    assert set(METRIC.findall(page.read_text())) <= known_metrics().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_settings_that_pages_name_exist(page: Path) -> None:
    known = {name for cls in settings_classes().values() for name in cls.variables()}
    known |= set(re.findall(r"^([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))
    assert set(SETTING.findall(page.read_text())) <= known


def test_the_example_files_are_files_that_the_programs_take(tmp_path: Path) -> None:
    rules = RoutingRules.model_validate(block_with("aliases"))
    assert rules.stand_ins("org/chat")
    assert WorkersFile.model_validate(block_with("servers")).servers
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump(block_with("keys")))
    assert FileKeyStore(keys).load()

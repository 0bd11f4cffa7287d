#!/usr/bin/env python3
"""Writes what the code knows into the documentation: settings, routes, help texts, models, API descriptions.

`scripts/generate_docs.py` writes; `--check` says what would change and exits with 1, which a test runs.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.main
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

import docs_alerts
import docs_conformance
import docs_failures
from docs_sources import cli_app, openapi_apps, settings_classes
from msp_common.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- generated: (\w+) ?([\w-]*) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def settings_table(name: str) -> Iterator[str]:
    """One row per environment variable that the program reads."""
    cls: type[Settings] = settings_classes()[name]
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for variable, field_name in cls.variables().items():
        field = cls.model_fields[field_name]
        if field.is_required():
            default = "required"
        elif field.get_default(call_default_factory=False) is None:
            default = "-"
        else:
            value = field.default
            default = f"`{getattr(value, 'value', value)}`" if value not in ("", (), {}) else "empty"
        meaning = " ".join((field.description or "").split())
        if not meaning:
            raise SystemExit(f"{cls.__name__}.{field_name} has no docstring")
        yield f"| `{variable}` | {default} | {meaning.replace('|', chr(92) + '|')} |"


def routes_table(name: str) -> Iterator[str]:
    """One row per route of the program's OpenAPI description."""
    app: FastAPI = openapi_apps()[name]
    yield "| route | what it does |"
    yield "|---|---|"
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"| `{method.upper()} {path}` | {operation.get('summary', '')} |"


def metrics_table(name: str) -> Iterator[str]:
    """One row per metric of the program's own that its `/metrics` has; all have the process's besides."""
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    registry: CollectorRegistry = openapi_apps()[name].state.metrics
    own = (family for family in registry.collect() if family.name.startswith("msp_"))
    for family in sorted(own, key=lambda f: f.name):
        total = "_total" if family.type == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in _labels(registry, family.name))
        yield f"| `{family.name}{total}` | {family.type} | {labels or '-'} | {family.documentation} |"


def _labels(registry: CollectorRegistry, name: str) -> Sequence[str]:
    """Also of a metric that has no values yet: then its collector knows them, or the family itself."""
    family = next(f for f in registry.collect() if f.name == name)
    collector = registry._names_to_collectors.get(name)
    declared: Sequence[str] = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
    return declared or sorted({label for sample in family.samples for label in sample.labels} - {"le"})


def cli_help(_: str) -> Iterator[str]:
    """The help of `msp` and of each of its commands, as a terminal 100 columns wide shows it."""
    app, runner = cli_app(), CliRunner(env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})

    def pages(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        shown = runner.invoke(app, [*path, "--help"], prog_name="msp").stdout
        yield f"### `{' '.join(('msp', *path))}`"
        yield ""
        yield "```"
        yield from (line.rstrip() for line in shown.strip().splitlines())
        yield "```"
        yield ""
        for name, sub in sorted(getattr(command, "commands", {}).items()):
            yield from pages(sub, (*path, name))

    yield from pages(typer.main.get_command(app), ())


SECTIONS: dict[str, Callable[[str], Iterator[str]]] = {
    "settings": settings_table,
    "routes": routes_table,
    "metrics": metrics_table,
    "cli": cli_help,
    "failures": docs_failures.failure_table,
    "alerts": docs_alerts.alert_table,
    "architectures": docs_conformance.architectures,
    "quantisations": docs_conformance.quantisations,
    "needs": docs_conformance.needs,
    "fields": docs_conformance.fields,
    "server_fields": docs_conformance.server_fields,
}


def with_sections(text: str) -> str:
    """The page with all marked sections made anew."""

    def anew(match: re.Match[str]) -> str:
        opening, kind, argument, closing = match.groups()
        return opening + "\n" + "\n".join(SECTIONS[kind](argument)).strip() + "\n\n" + closing

    return MARKED.sub(anew, text)


def expected() -> dict[Path, str]:
    """Every generated file and page, as it should be."""
    files = {page: with_sections(page.read_text()) for page in sorted((REPOSITORY / "docs").glob("*.md"))}
    for name, app in openapi_apps().items():
        path = REPOSITORY / "docs/openapi" / f"{name}.json"
        files[path] = json.dumps(app.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return files


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say what differs")
    check = parser.parse_args().check
    stale = {p: t for p, t in expected().items() if not p.exists() or p.read_text() != t}
    for path, text in stale.items():
        sys.stdout.write(f"{'differs' if check else 'wrote'}: {path.relative_to(REPOSITORY)}\n")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What may import what, and what may not be in the tree."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MEMBERS = {
    "common": "msp_common",
    "gateway": "msp_gateway",
    "registry": "msp_registry",
    "service-registry": "msp_service_registry",
    "model-service": "msp_model_service",
    "cli": "msp_cli",
}
HEAVY = {"torch", "transformers", "sentence_transformers", "tokenizers"}


def sources(member: str) -> list[Path]:
    return sorted((REPOSITORY / member / "src").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Top-level names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("member", MEMBERS)
def test_no_member_imports_another_but_common(member: str) -> None:
    others = set(MEMBERS.values()) - {MEMBERS[member], "msp_common"}
    found = {(str(p.relative_to(REPOSITORY)), name) for p in sources(member) for name in imported(p)}
    assert not {(path, name) for path, name in found if name in others}


def test_heavy_libraries_are_imported_by_engine_modules_alone() -> None:
    found = {
        str(path.relative_to(REPOSITORY))
        for member in MEMBERS
        for path in sources(member)
        if HEAVY & set(imported(path)) and "engines" not in path.parts
    }
    assert not found


def test_files_are_small_rooms() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for member in MEMBERS
        for path in sources(member)
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_no_tracked_file_names_a_machine_a_lock_address_or_a_secret() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    names = tracked.stdout.split("\n")
    assert "uv.lock" not in {Path(name).name for name in names}
    assert ".env" not in names

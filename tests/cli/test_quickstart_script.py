"""`scripts/quickstart.sh` and the environment it makes, with stand-ins for uv and msp."""

from pathlib import Path

import pytest

from support.cli_tools import ScriptFolder


@pytest.fixture
def scripts(tmp_path: Path) -> ScriptFolder:
    return ScriptFolder(tmp_path)


def test_the_first_run_makes_an_environment_and_the_second_does_not(scripts: ScriptFolder) -> None:
    scripts.add_uv()
    scripts.add_python()
    up = f"msp up --run-dir {scripts.root}/.run --cluster samples/cluster.yaml --detach"
    scripts.run("--detach")
    venv, locked, members, started = scripts.calls()
    assert venv.startswith("uv venv")
    assert "--require-hashes -r requirements/dev.txt" in locked
    assert "--no-deps --no-build-isolation --editable=./common --editable=./gateway" in members
    assert started == up
    scripts.run("--detach")
    assert scripts.calls() == [up]


def test_it_works_from_anywhere(scripts: ScriptFolder, tmp_path: Path) -> None:
    scripts.add_uv()
    scripts.add_python()
    scripts.run(cwd=tmp_path)
    assert (scripts.root / ".venv").is_dir()
    assert not (tmp_path / ".venv").exists()


def test_changed_requirements_bring_the_environment_up_to_date(scripts: ScriptFolder) -> None:
    scripts.add_uv()
    scripts.add_python()
    scripts.run()
    scripts.calls()
    (scripts.root / "requirements/dev.txt").write_text("a==2 --hash=sha256:1\n")
    scripts.run()
    assert [call.split()[1] for call in scripts.calls() if call.startswith("uv")] == ["pip", "pip"]


def test_an_installation_that_failed_is_tried_again(scripts: ScriptFolder) -> None:
    scripts.add_uv()
    scripts.add_python()
    scripts.run()
    (scripts.root / "requirements/dev.txt").write_text("a==2 --hash=sha256:1\n")
    scripts.calls()
    output = scripts.run(UV_FAILS="1", code=2)
    assert "is a package index reachable" in output
    assert not any(call.startswith("msp") for call in scripts.calls())
    scripts.run()
    assert len(scripts.calls()) == 3


@pytest.mark.parametrize("there_is_an_old_one", [False, True])
def test_without_a_python_that_fits_it_says_which_is_needed(
    scripts: ScriptFolder, there_is_an_old_one: bool
) -> None:
    scripts.add_uv()
    if there_is_an_old_one:
        scripts.add_old_python()
    output = scripts.run(code=2)
    assert "Python 3.11, 3.12 or 3.13 is needed" in output
    assert scripts.calls() == []


def test_a_missing_tool_is_named(scripts: ScriptFolder) -> None:
    (scripts.tools / "sha256sum").unlink()
    assert "sha256sum is needed" in scripts.run(code=2)


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["--stop"], "msp down"),
        (["--status"], "msp ps"),
        (["--restart", "llm-2"], "msp restart"),
    ],
)
def test_the_other_options_need_an_environment_and_never_make_one(
    scripts: ScriptFolder, arguments: list[str], called: str
) -> None:
    scripts.add_uv()
    scripts.add_python()
    assert "nothing has been started here yet" in scripts.run(*arguments, code=2)
    scripts.run()
    scripts.calls()
    scripts.run(*arguments)
    assert scripts.calls() == [
        f"{called} --run-dir {scripts.root}/.run{' llm-2' if len(arguments) > 1 else ''}"
    ]


@pytest.mark.parametrize("arguments", [["--detatch"], ["--restart"], ["--detach", "--stop"], ["llm"]])
def test_what_is_not_understood_starts_nothing(scripts: ScriptFolder, arguments: list[str]) -> None:
    scripts.add_uv()
    scripts.add_python()
    assert "Usage:" in scripts.run(*arguments, code=2)
    assert scripts.calls() == []


def test_help_needs_nothing(scripts: ScriptFolder) -> None:
    assert "--restart NAME" in scripts.run("--help")

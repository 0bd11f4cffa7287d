"""Every reason for a job's failure: told apart by its code, drawn in the tree, explained in the docs."""

import re
from pathlib import Path

from msp_registry import failures
from msp_registry.failures import JobFailure

PAGE = Path(__file__).parents[2] / "docs/registry.md"


def all_failures() -> list[type[JobFailure]]:
    return JobFailure.__subclasses__()


def test_the_docs_explain_every_code_and_whether_another_try_helps() -> None:
    table = re.search(r"\| code of a failed job .*\n\|-.*\n((?:\|.*\n)+)", PAGE.read_text())
    assert table is not None
    rows = [re.fullmatch(r"\| `(\w+)` \| .+ \| (yes|no) \|", row) for row in table[1].splitlines()]
    told = [(row[1], row[2] == "yes") for row in rows if row is not None]
    assert len(told) == len(rows)
    assert sorted(told) == sorted((failure.code, failure.retryable) for failure in all_failures())


def test_no_two_failures_share_a_code() -> None:
    codes = [failure.code for failure in all_failures()]
    assert len(set(codes)) == len(codes)


def test_the_tree_names_every_failure_and_no_other() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\S.*)", failures.__doc__ or "")
    assert sorted(name for name, _ in drawn) == sorted(failure.__name__ for failure in all_failures())
    marked = {name for name, meaning in drawn if meaning.endswith("retryable")}
    assert marked == {failure.__name__ for failure in all_failures() if failure.retryable}


def test_all_failures_are_in_the_one_tree() -> None:
    sources = (Path(failures.__file__).parent).rglob("*.py")
    bases = [path.name for path in sources if re.search(r"\(JobFailure\):", path.read_text())]
    assert bases == ["failures.py"]

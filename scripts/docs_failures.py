"""The section of `docs/operations.md` that is the gateway's failure table."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise

from msp_gateway import failures
from msp_gateway.failures import JUDGEMENTS, Fault, Happened, Judgement

_WHOSE = {Fault.CLIENT: "the client's", Fault.WORKER: "the worker's", Fault.NOBODY: "nobody's"}


def failure_table(_: str) -> Iterator[str]:
    """One row for each thing that can happen at a worker."""
    meanings = _meanings()
    yield "| `what` | what happened | whose fault | counts against the worker | who is asked next |"
    yield "|---|---|---|---|---|"
    for what, judgement in JUDGEMENTS.items():
        cells = (meanings[what.name], _WHOSE[judgement.fault], _counts(judgement), judgement.retry.value)
        yield f"| `{what}` | {' | '.join(cells)} |"


def _counts(judgement: Judgement) -> str:
    return "no" if judgement.report is None else f"yes, as `{judgement.report}`"


def _meanings() -> dict[str, str]:
    """What the text under each member of `Happened` says; Python itself does not keep it."""
    body = next(
        node.body
        for node in ast.parse(inspect.getsource(failures)).body
        if isinstance(node, ast.ClassDef) and node.name == Happened.__name__
    )
    return {
        member.targets[0].id: " ".join(text.value.value.split()).removesuffix(".")
        for member, text in pairwise(body)
        if isinstance(member, ast.Assign)
        and isinstance(member.targets[0], ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }

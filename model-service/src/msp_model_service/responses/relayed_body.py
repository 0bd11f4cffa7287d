"""A request for a response on its way to an external server: refused is what would be refused here too.

Several replicas know nothing of what one of them stored, and tools that a server runs itself reach outside.
"""

from collections.abc import Mapping

from msp_common.errors import InvalidRequest
from msp_model_service.engines.external.inline_media import check_parts, read_unambiguous
from msp_model_service.responses.refusals import refuse_item_type, refuse_unsupported


def check_responses_body(raw: bytes) -> None:
    """Raises InvalidRequest, naming the first field that asks for state or leads elsewhere."""
    body = read_unambiguous(raw)
    refuse_unsupported(body)
    given = body.get("input")
    if not isinstance(given, list):
        return
    for i, item in enumerate(given):
        if not isinstance(item, Mapping):
            raise InvalidRequest(
                f"Invalid value for 'input.{i}': an item is an object.",
                param=f"input.{i}",
                code="invalid_value",
            )
        refuse_item_type(
            item.get("type") or ("message" if "role" in item else "item_reference"), f"input.{i}"
        )
        for name in ("content", "output"):
            check_parts(item.get(name), f"input.{i}.{name}")

"""The events of a streamed response, numbered."""

import json
from typing import Any

from msp_common import sse


class Numbered:
    """Frames the events of one response, each with its number and named after its type."""

    def __init__(self) -> None:
        self._next = 0

    def frame(self, event: dict[str, Any]) -> bytes:
        """One event. ASCII only: some clients' line splitters break at U+2028 and its like."""
        numbered = {**event, "sequence_number": self._next}
        self._next += 1
        data = json.dumps(numbered, ensure_ascii=True, separators=(",", ":"))
        return sse.frame(data, event=str(event["type"]))

"""Where in the client's body a thing stands that the chat's own words name by its place in a chat request."""

import re
from collections.abc import Mapping

from msp_common.errors import ApiError

_QUOTED = re.compile(r"'([A-Za-z_0-9.]+)'")

FIELDS: Mapping[str, str] = {
    "messages": "input",
    "image_url": "input_image",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "response_format.json_schema.schema": "text.format.schema",
    "tool_choice.allowed_tools": "tool_choice",
    "tool_choice.allowed_tools.tools": "tool_choice.tools",
}
"""What is called otherwise, whatever the request."""


class Places:
    """Translates paths; the longest known beginning of a path counts."""

    def __init__(self) -> None:
        self._known = dict(FIELDS)

    def note(self, chat: str, ours: str) -> None:
        """What the chat calls `chat` is `ours` in the client's body."""
        self._known[chat] = ours

    def of(self, chat: str) -> str:
        """The path in the client's body; the same one where nothing else is known."""
        head, rest = chat, ""
        while head not in self._known or (head == "messages" and rest):
            head, dot, last = head.rpartition(".")
            if not dot:
                return chat
            rest = f".{last}{rest}"
        return self._known[head] + rest

    def in_our_terms(self, error: ApiError) -> ApiError:
        """The same error for the client of this route: its parameter, and the paths quoted in its words."""
        message = _QUOTED.sub(lambda quoted: f"'{self.of(quoted[1])}'", error.message)
        return type(error)(
            message,
            param=None if error.param is None else self.of(error.param),
            code=error.code,
            retry_after_s=error.retry_after_s,
            should_retry=error.should_retry,
        )

"""OpenAI's `response` object: what was asked, told back, and how far the answer is."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from msp_common.errors import ApiError, InvalidRequest, TooManyRequests
from msp_model_service.chat.choices import Finish
from msp_model_service.engines.chat import Sampling, Usage
from msp_model_service.responses.wire import FunctionTool, ResponsesRequest, TextFormat

Json = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete", "failed"]


def usage_json(usage: Usage, reasoning_tokens: int) -> Json:
    """OpenAI's `usage`. What an engine does not tell of its cache counts as nothing cached."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def error_json(error: ApiError) -> Json:
    """The `error` of a response that failed; its codes are a closed set."""
    if isinstance(error, TooManyRequests):
        code = "rate_limit_exceeded"
    elif isinstance(error, InvalidRequest):
        code = "invalid_prompt"
    else:
        code = "server_error"
    return {"code": code, "message": error.message}


@dataclass(frozen=True)
class ResponseHead:
    """What all states of one response have in common."""

    model: str
    asked: ResponsesRequest
    defaults: Sampling
    """What held where the request said nothing."""
    id: str = field(default_factory=lambda: f"resp_{uuid.uuid4().hex}")
    created_at: int = field(default_factory=lambda: int(time.time()))

    def begun(self) -> Json:
        """The response before its first item."""
        return self._body("in_progress", ())

    def ended(self, finish: Finish, output: Sequence[Json], usage: Json) -> Json:
        """The response with all its items."""
        if finish == "length":
            details = {"reason": "max_output_tokens"}
            return {
                **self._body("incomplete", output),
                "incomplete_details": details,
                "usage": usage,
            }
        return {**self._body("completed", output), "completed_at": int(time.time()), "usage": usage}

    def failed(self, error: ApiError, output: Sequence[Json]) -> Json:
        """The response as far as it came."""
        return {**self._body("failed", output), "error": error_json(error)}

    def _body(self, status: Status, output: Sequence[Json]) -> Json:
        asked = self.asked
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "max_tool_calls": asked.max_tool_calls,
            "model": self.model,
            "output": list(output),
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": _first(asked.temperature, self.defaults.temperature, 1.0),
            "top_p": _first(asked.top_p, self.defaults.top_p, 1.0),
            "presence_penalty": asked.presence_penalty or 0.0,
            "frequency_penalty": asked.frequency_penalty or 0.0,
            "text": {"format": _format_json(asked.text.format if asked.text else None)},
            "tool_choice": "auto" if asked.tool_choice is None else asked.tool_choice,
            "tools": [_tool_json(tool) for tool in asked.tools or ()],
            "top_logprobs": asked.top_logprobs or 0,
            "truncation": "disabled",
            "usage": None,
            "user": asked.user,
            "metadata": asked.metadata or {},
            "safety_identifier": asked.safety_identifier,
            "prompt_cache_key": asked.prompt_cache_key,
        }


def _first(asked: float | None, default: float | None, otherwise: float) -> float:
    return next((value for value in (asked, default) if value is not None), otherwise)


def _tool_json(tool: FunctionTool) -> Json:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }


def _format_json(form: TextFormat | None) -> Json:
    if form is None or form.type != "json_schema":
        return {"type": form.type if form else "text"}
    return {
        "type": form.type,
        "name": form.name,
        "description": form.description,
        "schema": form.json_schema if form.json_schema is not None else {"type": "object"},
        "strict": bool(form.strict),
    }

"""One log format for all programs: a console line or a JSON object, with the request id in every line."""

import json
import logging
import re
import sys
import time
from contextvars import ContextVar
from typing import Any, Literal

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the current task works on; set by `msp_common.request_ids`."""

# Values that must never reach a log, wherever they come from: bearer tokens, Hub tokens, our own keys,
# passwords in URLs, and signatures of presigned URLs.
_SECRETS = re.compile(
    r"(?i)(bearer\s+)[^\s\"',]+|\b(hf_|sk-|msp_)[A-Za-z0-9_-]{8,}|(://[^/\s:@]+:)[^@\s/]+(?=@)"
    r"|(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+"
)
# `color_message` is uvicorn's own.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def redact(text: str) -> str:
    """The text with everything that looks like a secret replaced by `***`."""
    return _SECRETS.sub(lambda m: next((g for g in m.groups() if g), "") + "***", text)


class _Formatter(logging.Formatter):
    def __init__(self, service: str, format: Literal["console", "json"]) -> None:
        super().__init__()
        self.service = service
        self.as_json = format == "json"

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {k: v for k, v in vars(record).items() if k not in _STANDARD}
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        request_id = fields.pop("request_id", None) or REQUEST_ID.get()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
        if self.as_json:
            line = {
                "time": moment,
                "level": record.levelname.lower(),
                "service": self.service,
                "logger": record.name,
                "request_id": request_id,
                "message": redact(message),
                **{k: redact(v) if isinstance(v, str) else v for k, v in fields.items()},
            }
            return json.dumps(line, default=str, ensure_ascii=False)
        extra = "".join(f" {k}={v}" for k, v in fields.items())
        return redact(
            f"{moment} {record.levelname.lower():7} {self.service} [{request_id or '-'}] {message}{extra}"
        )


def formatter(service: str, format: Literal["console", "json"]) -> logging.Formatter:
    """The platform's log line as a `logging.Formatter`."""
    return _Formatter(service, format)


def configure(service: str, format: Literal["console", "json"] = "console", level: str = "info") -> None:
    """Send every logger of this process to standard error in the platform's format.

    Fields beyond the message are given as `extra={...}`. Request bodies and answers are never logged.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(service, format))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "urllib3", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

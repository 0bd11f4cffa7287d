"""The client's form, a recording in it, on its way to the server."""

from dataclasses import dataclass

import httpx
from starlette.datastructures import FormData, UploadFile

from msp_common.errors import InvalidRequest

_Field = tuple[str, tuple[str | None, str | bytes, str | None]]


@dataclass(frozen=True)
class FormBody:
    """A form as the client wrote it, in the client's order."""

    fields: tuple[_Field, ...]
    model: str | None

    def for_server(self, model_name: str) -> tuple[bytes, str]:
        """The form with the server's name for the model, and its content type."""
        others = [(name, value) for name, value in self.fields if name != "model"]
        named = [("model", (None, model_name, None)), *others]
        # httpx writes forms; the request itself is never sent.
        request = httpx.Request("POST", "http://server", files=named)
        return request.read(), request.headers["content-type"]


async def read_form(form: FormData) -> FormBody:
    """Raises InvalidRequest where there is no file."""
    fields: list[_Field] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            # Its name is the client's, and some servers write it to disk: only the ending says something.
            ending = (value.filename or "").rpartition(".")[2][:8]
            safe = f"file.{ending}" if ending.isalnum() else "file"
            fields.append((name, (safe, await value.read(), value.content_type)))
        else:
            fields.append((name, (None, value, None)))
    if not any(name == "file" and value[0] is not None for name, value in fields):
        raise InvalidRequest("The form needs the recording as a file in 'file'.", param="file")
    model = next((str(value[1]) for name, value in fields if name == "model"), None)
    return FormBody(tuple(fields), model or None)

"""Multipart forms: `model` is found wherever it stands, and the file's bytes go on unchanged."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from msp_common.errors import InvalidRequest
from msp_gateway.body import Body, SplicedBody, SpooledBody, arriving
from msp_gateway.fields import Fields
from msp_gateway.head import Head

FIELD_BYTES = 1024
"""The longest value of `model` and `stream` that is taken."""


class FormScan:
    """Finds the small fields that routing needs in a form that passes by chunk by chunk."""

    def __init__(self, boundary: bytes) -> None:
        """Raises FormParserError for a boundary that is too long."""
        self.values: dict[str, bytes] = {}
        self.starts: dict[str, int] = {}
        self.complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )
        self._passed = 0  # bytes of the chunks before the current one
        self._header = b""
        self._header_value = b""
        self._header_value_end = 0
        self._disposition = b""
        self._field: str | None = None

    def feed(self, chunk: bytes) -> None:
        """Raises FormParserError for what is no form, and InvalidRequest for a field that cannot be used."""
        self._parser.write(chunk)
        self._passed += len(chunk)

    def _on_part_begin(self) -> None:
        self._disposition, self._field = b"", None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._header_value_end = self._passed + end

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        if name not in ("model", "stream") or b"filename" in options:
            return
        if name in self.values:
            raise InvalidRequest(f"The form has the field '{name}' twice.", param=name, code="invalid_value")
        self._field = name
        self.values[name] = b""
        # After the last header's value come its own line's end and an empty line.
        self.starts[name] = self._header_value_end + len(b"\r\n\r\n")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            return
        self.values[self._field] += data[start:end]
        if len(self.values[self._field]) > FIELD_BYTES:
            raise InvalidRequest(
                f"The field '{self._field}' is longer than {FIELD_BYTES} bytes.",
                param=self._field,
                code="invalid_value",
            )

    def _on_end(self) -> None:
        self.complete = True


class MultipartRequest:
    """A request whose body is a form; long ones wait in a temporary file."""

    def __init__(self, body: SpooledBody, scan: FormScan, boundary: bytes) -> None:
        """Raises InvalidRequest for a `model` that is no text."""
        self._body, self._scan, self._boundary = body, scan, boundary
        try:
            model = scan.values.get("model", b"").decode()
        except UnicodeDecodeError:
            raise InvalidRequest(
                "Invalid value for 'model': expected UTF-8.", param="model", code="invalid_value"
            ) from None
        stream = scan.values.get("stream", b"").decode("latin-1").lower() in ("true", "1")
        self.head = Head(model or None, stream)
        self.text_bytes = 0

    def body_for(self, model_id: str) -> Body:
        """The client's own bytes; where the model was named otherwise or not, with the id written in."""
        if model_id == self.head.model:
            return self._body
        start = self._scan.starts.get("model")
        if start is None:
            part = b'--%s\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
            return SplicedBody(self._body, 0, 0, part % (self._boundary, model_id.encode()))
        value = self._scan.values["model"]
        end = start + len(value)
        if self._body.slice(start - 4, end) != b"\r\n\r\n" + value:
            raise InvalidRequest(
                "The headers of the form's field 'model' are written in a way that is not understood.",
                param="model",
                code="invalid_value",
            )
        return SplicedBody(self._body, start, end, model_id.encode())

    def close(self) -> None:
        """Remove the temporary file."""
        self._body.close()


async def read_form(receive: Receive, fields: Fields, limit_bytes: int) -> MultipartRequest:
    """Raises InvalidRequest, PayloadTooLarge and ClientLeft."""
    media_type, options = parse_options_header(fields.get(b"content-type", b""))
    boundary = options.get(b"boundary")
    if media_type != b"multipart/form-data" or not boundary:
        raise InvalidRequest(
            "The body must be a form: Content-Type multipart/form-data with a boundary.", code="invalid_form"
        )
    body = SpooledBody()
    try:
        scan = FormScan(boundary)
        async for chunk in arriving(receive, limit_bytes, fields.get(b"content-length")):
            scan.feed(chunk)
            body.append(chunk)
        if not scan.complete:
            raise InvalidRequest("The form ends before its last boundary.", code="invalid_form")
        return MultipartRequest(body, scan, boundary)
    except FormParserError as error:
        body.close()
        raise InvalidRequest(f"The form cannot be read: {error}.", code="invalid_form") from None
    except BaseException:
        body.close()
        raise

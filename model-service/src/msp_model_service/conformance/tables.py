"""The table of each path."""

from collections.abc import Mapping, Sequence

from msp_model_service.conformance import generating, other_paths, responding
from msp_model_service.conformance.fields import Field, Standing

TABLES: Mapping[str, Sequence[Field]] = {
    "/v1/chat/completions": generating.CHAT,
    "/v1/completions": generating.COMPLETIONS,
    "/v1/responses": responding.RESPONSES,
    "/v1/embeddings": other_paths.EMBEDDINGS,
    "/v1/audio/transcriptions": other_paths.TRANSCRIPTIONS,
    "/v1/audio/translations": other_paths.TRANSLATIONS,
}
"""What a worker with an engine of its own makes of each field. Fields that no row names are ignored."""

_NAME = Field("model", why="the server is told its own name for the model")

_BY_SERVER: Mapping[str, Sequence[Field]] = {
    "/v1/chat/completions": (
        _NAME,
        Field(
            "messages",
            Standing.REFUSED,
            "nothing is fetched; send a `data:` URI",
            value="parts with an address or a path",
            code="invalid_image_url",
        ),
        Field("stream_options", Standing.PASSED_ON, "with `include_usage`, for the worker's own count"),
    ),
    "/v1/completions": (
        _NAME,
        Field("stream_options", Standing.PASSED_ON, "with `include_usage`, for the worker's own count"),
    ),
    "/v1/responses": (
        _NAME,
        Field(
            "input",
            Standing.REFUSED,
            "nothing is fetched; send a `data:` URI",
            value="parts with an address or a path",
            code="invalid_image_url",
        ),
        *responding.STATEFUL,
    ),
    "/v1/audio/transcriptions": (_NAME, Field("file", Standing.PASSED_ON, "without its name")),
    "/v1/audio/translations": (_NAME, Field("file", Standing.PASSED_ON, "without its name")),
}


def by_server(path: str) -> Sequence[Field]:
    """What of a path's fields a worker before an external server minds; all others it passes on."""
    return _BY_SERVER.get(path, (_NAME,))

"""An HTTP client to workers that makes no connection: scripted answers, with a memory of what was closed."""

from collections.abc import Sequence

from msp_gateway.upstream import RawHeaders, UpstreamError, UpstreamRequest


class FakeAnswer:
    """One answer; an exception among its chunks is raised in its place."""

    def __init__(self, status: int, *chunks: bytes | UpstreamError, headers: RawHeaders = ()) -> None:
        self.status = status
        self.headers = headers
        self.closed = 0
        self._script = chunks
        self._given = 0

    @property
    def ended(self) -> bool:
        return self._given == len(self._script)

    async def read(self) -> bytes:
        if self.ended:
            return b""
        chunk = self._script[self._given]
        self._given += 1
        if isinstance(chunk, UpstreamError):
            raise chunk
        return chunk

    def rewind(self) -> None:
        self._given = 0

    def close(self) -> None:
        self.closed += 1


class FakeUpstream:
    """Gives one scripted answer or error after the other."""

    def __init__(self, *script: FakeAnswer | UpstreamError) -> None:
        self.script: Sequence[FakeAnswer | UpstreamError] = script
        self.asked: list[str] = []

    async def open(self, request: UpstreamRequest) -> FakeAnswer:
        result = self.script[len(self.asked)]
        self.asked.append(request.url)
        if isinstance(result, UpstreamError):
            raise result
        result.rewind()
        return result

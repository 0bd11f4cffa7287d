"""An HTTP client to workers that makes no connection: scripted answers, with a memory of what was closed."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from msp_gateway.upstream import RawHeaders, UpstreamError, UpstreamRequest


class FakeAnswer:
    """One answer; an exception among its chunks is raised in its place."""

    def __init__(self, status: int, *chunks: bytes | UpstreamError, headers: RawHeaders = ()) -> None:
        self.status = status
        self.headers = headers
        self.closed = 0
        self._script = chunks

    def chunks(self) -> AsyncIterator[bytes]:
        return self._read()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        for chunk in self._script:
            if isinstance(chunk, UpstreamError):
                raise chunk
            yield chunk

    async def aclose(self) -> None:
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
        return result

"""Bytes on their way into an S3 server: a wrong one is refused, whether the server knows CRC-32 or not."""

import base64
import hashlib
import socket
import zlib
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from msp_registry.stores.s3_store import S3Store
from msp_registry.stores.store import NoSuchObject, StoreUnavailable
from support.registry_minio import MinioServer
from support.registry_stores import S3_KINDS, s3
from support.servers import run_server
from support.tcp_forwarder import forwarder

CRC = "x-amz-checksum-crc32"
RUN = b"a" * 1000
DATA = RUN * 300

Reply = Callable[[str | None], Response]
"""From the CRC-32 of a request, if it has one."""


class _Flipping(socket.socket):
    """A line that turns one letter of every long run of them."""

    def sendall(self, data: bytes, flags: int = 0, /) -> None:  # type: ignore[override]
        super().sendall(data.replace(RUN, b"b" + RUN[1:], 1), flags)


@pytest.mark.parametrize("kind", S3_KINDS[::2])
async def test_a_byte_that_is_flipped_on_the_way_is_refused(
    request: pytest.FixtureRequest, kind: str
) -> None:
    server = request.getfixturevalue(kind)
    await s3(server, "flipped").prepare()

    def connect() -> socket.socket:
        line = _Flipping()
        host, port = server.endpoint.split(":")
        line.connect((host, int(port)))
        return line

    with forwarder(connect) as port:
        store = s3(MinioServer(f"127.0.0.1:{port}", server.root_user, server.root_password), "flipped")
        with pytest.raises(StoreUnavailable, match=r"XAmzContentChecksumMismatch|BadDigest"):
            await store.put("a", DATA)
        upload_id = await store.begin_upload("b", size_bytes=len(DATA), part_bytes=len(DATA))
        with pytest.raises(StoreUnavailable, match=r"XAmzContentChecksumMismatch|BadDigest"):
            await store.put_part("b", upload_id, 1, DATA)
        assert await store.parts("b", upload_id) == []
        with pytest.raises(NoSuchObject):
            await store.stat("a")


class _Server:
    """Takes every put, and notes its headers."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.heard: list[tuple[str | None, str]] = []
        self.signed = ""
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["PUT"])])

    async def _answer(self, request: Request) -> Response:
        assert await request.body() == DATA
        crc = request.headers.get(CRC)
        self.heard.append((crc, request.headers["x-amz-content-sha256"]))
        self.signed = request.headers["authorization"]
        return self._reply(crc)


BY_CRC = (base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode(), "UNSIGNED-PAYLOAD")
SIGNED = (None, hashlib.sha256(DATA).hexdigest())


def _store(url: str) -> S3Store:
    return s3(MinioServer(url.removeprefix("http://")))


def _knows(crc: str | None) -> Response:
    return Response(headers={"ETag": '"e"'} | ({CRC: crc} if crc else {}))


def _ignores(crc: str | None) -> Response:
    return Response(headers={"ETag": '"e"'})


def _refuses(crc: str | None) -> Response:
    if crc is None:
        return _ignores(crc)
    told = "<Error><Code>InvalidRequest</Code><Message>Checksum Type mismatch</Message></Error>"
    return Response(told, 400, media_type="application/xml")


async def test_a_server_that_checks_the_crc_is_sent_no_other_hash_of_the_bytes() -> None:
    server = _Server(_knows)
    with run_server(server.app) as url:
        store = _store(url)
        await store.put("a", DATA)
        part = await store.put_part("b", "upload", 1, DATA)
    assert part.etag == "e"
    assert server.heard == [BY_CRC, BY_CRC]
    assert CRC in server.signed


@pytest.mark.parametrize("reply", [_ignores, _refuses])
async def test_a_server_that_does_not_check_it_is_sent_the_bytes_again_with_their_sha256(
    reply: Reply,
) -> None:
    server = _Server(reply)
    with run_server(server.app) as url:
        store = _store(url)
        await store.put_part("b", "upload", 1, DATA)
        await store.put("a", DATA)
    assert server.heard == [BY_CRC, SIGNED, SIGNED]
    assert CRC not in server.signed

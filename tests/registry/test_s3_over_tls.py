"""An S3 store behind the certificate of a private authority that leaves out what RFC 5280 asks for."""

import asyncio
from pathlib import Path

import pytest
import urllib3
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from msp_registry.stores.s3_endpoint import http_pool
from support.forward_proxy import tls_front
from support.private_authority import Authority, make_authority
from support.servers import run_server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "127.0.0.1")


async def test_it_is_trusted_once_it_is_named_and_not_before(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    store = Starlette(routes=[Route("/", lambda _: PlainTextResponse("stored"))])
    with run_server(store) as url:
        async with tls_front(
            authority.certificate, authority.key, ("127.0.0.1", int(url.rpartition(":")[2]))
        ) as front:

            def ask(name: str) -> bytes:
                return http_pool().request("GET", f"https://{name}:{front[1]}/", retries=False).data

            with pytest.raises(urllib3.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
                await asyncio.to_thread(ask, "127.0.0.1")
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
            assert await asyncio.to_thread(ask, "127.0.0.1") == b"stored"
            with pytest.raises(urllib3.exceptions.SSLError, match="not valid for"):
                await asyncio.to_thread(ask, "localhost")

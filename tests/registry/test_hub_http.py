"""Reaching a hub through a proxy, and one whose certificate a private authority has signed."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from msp_common.tls import BadCaFile, trust
from msp_registry.failures import HubUnreachable
from msp_registry.hub.client import HubClient
from msp_registry.hub.http import http_client
from support.fake_hub import COMMIT, FakeHub
from support.forward_proxy import ForwardProxy, tls_front
from support.private_authority import Authority, make_authority
from support.registry_files import tiny_model
from support.registry_mirroring import ToldClock, remote
from support.servers import run_server

MODEL = tiny_model(20_000)
HOST = "hub.example.test"
PROXY_SETTINGS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"), HOST)


@pytest.fixture
def address(hub: FakeHub) -> Iterator[tuple[str, int]]:
    with run_server(hub.app) as url:
        yield "127.0.0.1", urlsplit(url).port or 0


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_SETTINGS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def weights_of(endpoint: str, extra_ca_file: Path | None = None) -> bytes:
    clock = ToldClock()
    file = remote("model.safetensors", MODEL["model.safetensors"])
    async with http_client(extra_ca_file) as client:
        hub = HubClient(endpoint, "hf_secret", client, clock.sleep, clock=clock)
        return b"".join([c async for c in hub.read("org/tiny", COMMIT, file, 0, file.size_bytes)])


async def test_a_plain_hub_is_reached_through_the_proxy(
    hub: FakeHub, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.accepted_token = "hf_secret"
    async with ForwardProxy().serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert await weights_of(f"http://127.0.0.1:{address[1]}") == MODEL["model.safetensors"]
        assert proxy.reached == [f"http 127.0.0.1:{address[1]}"]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await weights_of(f"http://127.0.0.1:{address[1]}") == MODEL["model.safetensors"]
        assert len(proxy.reached) == 1


async def test_a_hub_behind_tls_of_a_private_authority_is_reached_through_the_proxy(
    hub: FakeHub, address: tuple[str, int], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.accepted_token = "hf_secret"
    async with (
        tls_front(authority.certificate, authority.key, address) as front,
        ForwardProxy(tunnel_to=front).serving() as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert await weights_of(f"https://{HOST}", authority.ca) == MODEL["model.safetensors"]
        assert proxy.reached == [f"CONNECT {HOST}:443"]


async def test_an_unknown_authority_is_named_with_its_remedy_and_not_tried_again(
    address: tuple[str, int], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        tls_front(authority.certificate, authority.key, address) as front,
        ForwardProxy(tunnel_to=front).serving() as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(HubUnreachable, match=r"tried 1 times.* set EXTRA_CA_FILE"):
            await weights_of(f"https://{HOST}")


def test_the_usual_authorities_stay_trusted_beside_the_private_one(authority: Authority) -> None:
    def subjects(context: ssl.SSLContext) -> set[str]:
        return {str(ca["subject"]) for ca in context.get_ca_certs()}

    usual, more = subjects(trust(None)), subjects(trust(authority.ca))
    assert len(usual) > 10
    assert usual < more
    assert "Private CA" in str(more - usual)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadCaFile, match=r"EXTRA_CA_FILE=.*ca\.pem"):
        trust(file)

"""The gateway over https: a real process with a certificate of a private authority."""

import asyncio
import os
import ssl
import sys
from pathlib import Path

import httpx
import openai
import pytest

from support.fake_worker import FakeWorker
from support.gateway_cluster import LLM, worker
from support.gateway_process import gateway_process
from support.private_authority import Authority, make_authority
from support.servers import free_port


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    # The official client is as strict as its Python.
    return make_authority(tmp_path, "127.0.0.1", by_the_book=True)


async def test_the_official_client_chats_and_plain_http_is_not_answered(
    authority: Authority,
) -> None:
    trusting = ssl.create_default_context(cafile=authority.ca)
    files = {"GATEWAY_TLS_CERT": str(authority.certificate), "GATEWAY_TLS_KEY": str(authority.key)}
    async with (
        FakeWorker() as one,
        gateway_process(worker("one", url=one.url), trusting=trusting, settings=files) as (url, _),
        openai.AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key="none",
            http_client=openai.DefaultAsyncHttpxClient(verify=trusting),
        ) as client,
    ):
        hello = await client.chat.completions.create(model=LLM, messages=[{"role": "user", "content": "Hi"}])
        assert hello.choices[0].message.content == "hello"
        async with httpx.AsyncClient() as plain:
            with pytest.raises(httpx.TransportError):
                await plain.get(f"{url.replace('https', 'http')}/health")
        own = [sys.executable, "-m", "msp_common.healthcheck", f"{url}/health"]
        assert await (await asyncio.create_subprocess_exec(*own)).wait() == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"GATEWAY_TLS_CERT": "{certificate}"}, "GATEWAY_TLS_CERT and GATEWAY_TLS_KEY are set together"),
        ({"GATEWAY_TLS_CERT": "{ca}", "GATEWAY_TLS_KEY": "{key}"}, "cannot be used with the key"),
        ({"GATEWAY_TLS_CERT": "/gone.pem", "GATEWAY_TLS_KEY": "{key}"}, "/gone.pem cannot be used"),
    ],
)
async def test_files_that_cannot_be_used_are_named_at_the_start(
    authority: Authority, files: dict[str, str], said: str
) -> None:
    paths = {name: str(path) for name, path in vars(authority).items()}
    told = {name: path.format(**paths) for name, path in files.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "msp_gateway",
        env={**os.environ, "GATEWAY_PORT": str(free_port()), **told},
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert said in stderr.decode()

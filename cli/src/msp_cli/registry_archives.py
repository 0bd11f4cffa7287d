"""Whole models to and from the registry, as tar streams."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx

from msp_cli.registry_api import away, bearer, parsed, refusal
from msp_common.contracts.models import ModelInfo

STALL_S = 600
"""The registry waits for its store while the connection stands still."""

READ_BACK_S = 6 * 3600
"""After the last byte the registry may read everything back before it answers."""

_NO_TAR = "bad_archive"


class ArchiveApi:
    """The registry's archive routes, and that of single files. Every method raises ServiceAnsweredBadly."""

    def __init__(self, client: httpx.Client, url: str, admin_token: str | None) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._headers = bearer(admin_token)

    def ask(self, model_id: str, revision: str) -> None:
        """Whether a tar would be taken now: hours of sending are not to end with a wrong token.

        Asked with a tar of no bytes; to be told that it is no tar means that any other is welcome.
        """
        answer = self._put(model_id, revision, b"", 0)
        if answer.is_error and (told := refusal(answer)).code != _NO_TAR:
            raise told

    def send(
        self,
        model_id: str,
        revision: str,
        chunks: Iterator[bytes],
        length: int,
        *,
        rest_from_store: bool = False,
    ) -> ModelInfo:
        """Put a tar stream of `length` bytes into the store.

        `rest_from_store`: files of its manifest that are not in it are taken from snapshots in the store.
        """
        answer = self._put(model_id, revision, chunks, length, rest_from_store=rest_from_store)
        if answer.is_error:
            raise refusal(answer)
        return parsed(ModelInfo, answer)

    @contextmanager
    def file(self, model_id: str, commit: str, path: str) -> Iterator[Iterator[bytes]]:
        """The chunks of one file of a snapshot."""
        with self._streamed(f"/files/{quote(model_id)}/{commit}/{quote(path)}", {}) as chunks:
            yield chunks

    def _put(
        self,
        model_id: str,
        revision: str,
        content: bytes | Iterator[bytes],
        length: int,
        *,
        rest_from_store: bool = False,
    ) -> httpx.Response:
        url = f"{self._url}/models/{model_id}/archive"
        headers = {**self._headers, "Content-Type": "application/x-tar", "Content-Length": str(length)}
        timeout = httpx.Timeout(30, write=STALL_S, read=READ_BACK_S)
        params = {"revision": revision}
        if rest_from_store:
            params["rest_from_store"] = "true"
        try:
            return self._client.put(url, params=params, content=content, headers=headers, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise away(url, error) from None

    @contextmanager
    def receiving(self, model_id: str, revision: str) -> Iterator[Iterator[bytes]]:
        """The chunks of a model's tar stream."""
        with self._streamed(f"/models/{model_id}/archive", {"revision": revision}) as chunks:
            yield chunks

    @contextmanager
    def _streamed(self, path: str, params: dict[str, str]) -> Iterator[Iterator[bytes]]:
        url = f"{self._url}{path}"
        timeout = httpx.Timeout(30, read=STALL_S)
        try:
            with self._client.stream(
                "GET", url, params=params, headers=self._headers, timeout=timeout
            ) as answer:
                if answer.is_error:
                    answer.read()
                    raise refusal(answer)
                yield answer.iter_raw(1 << 20)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise away(url, error) from None

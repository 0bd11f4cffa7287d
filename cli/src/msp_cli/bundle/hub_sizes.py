"""How many bytes a hub would send, and whether it would: asked before anything is fetched."""

import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from urllib.parse import quote

import httpx

from msp_cli.models_file import DeclaredModel
from msp_common.tls import forgiving

# The registry's own rules (msp_registry.hub.selection), which it applies again and with more to say.
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".ot", ".joblib"})
_DUPLICATES = ("original/*", "consolidated*")


class NotToBeHad(Exception):
    """The hub will not give a model, or cannot be asked; says what to do."""


@dataclass(frozen=True)
class HubSize:
    """One model at one commit."""

    commit: str
    total_bytes: int


class Hub:
    """Asks a hub by the Hub's protocol."""

    def __init__(self, client: httpx.Client, endpoint: str, token: str | None) -> None:
        self._client = client
        self._endpoint = endpoint.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def size_of(self, model: DeclaredModel) -> HubSize:
        """What the registry will fetch into an empty store. Raises NotToBeHad."""
        api = f"{self._endpoint}/api/models/{model.id}"
        info = self._ask(model.id, f"{api}/revision/{quote(model.revision, safe='')}")
        commit = str(info.json().get("sha"))
        files = self._files(model.id, f"{api}/tree/{commit}?recursive=true&expand=false")
        self._may_be_read(model, commit, sorted(files, key=lambda name: files[name]))
        return HubSize(commit, sum(files[name] for name in chosen(files, model)))

    def _files(self, model_id: str, url: str | None) -> dict[str, int]:
        files: dict[str, int] = {}
        while url is not None:
            answer = self._ask(model_id, url)
            files |= {e["path"]: int(e.get("size") or 0) for e in answer.json() if e.get("type") == "file"}
            url = answer.links.get("next", {}).get("url")
        return files

    def _may_be_read(self, model: DeclaredModel, commit: str, names: list[str]) -> None:
        """A gated model's page can be read by all; only a file tells whether the licence was accepted."""
        if names:
            url = f"{self._endpoint}/{model.id}/resolve/{commit}/{quote(names[0])}"
            self._refuse(model.id, self._send(url, {"Range": "bytes=0-0"}))

    def _ask(self, model_id: str, url: str) -> httpx.Response:
        answer = self._send(url, {})
        self._refuse(model_id, answer)
        if not answer.headers.get("Content-Type", "").startswith("application/json"):
            raise NotToBeHad(f"{model_id}: {url} is not answered by a hub")
        return answer

    def _send(self, url: str, headers: dict[str, str]) -> httpx.Response:
        try:
            return self._client.get(url, headers={**self._headers, **headers})
        except httpx.HTTPError as error:
            raise NotToBeHad(
                f"{url} cannot be reached: {error}. Behind a proxy set HTTPS_PROXY, and EXTRA_CA_FILE if it "
                "looks into TLS"
            ) from None

    def _refuse(self, model_id: str, answer: httpx.Response) -> None:
        code = answer.headers.get("X-Error-Code", "")
        if code == "GatedRepo" or answer.status_code == 403:
            what = "accept its licence with the account of HF_TOKEN" if self._headers else "set HF_TOKEN"
            raise NotToBeHad(f"{model_id} is gated: {what} ({self._endpoint}/{model_id})")
        if answer.status_code == 401:
            what = "HF_TOKEN is not accepted" if self._headers else "it may be private: set HF_TOKEN"
            raise NotToBeHad(f"{model_id} is not given: {what}")
        if answer.is_error:
            raise NotToBeHad(f"{model_id} is not given: {answer.status_code} {code}".rstrip())


def chosen(names: Iterable[str], model: DeclaredModel) -> list[str]:
    """Which files the registry will take."""
    wanted = [
        name
        for name in names
        if (_matches(name, model.include) if model.include else not name.endswith(".py"))
        and not _matches(name, model.exclude)
    ]
    if model.allow_pickle:
        return wanted
    safe = [name for name in wanted if PurePosixPath(name).suffix.lower() not in _PICKLED]
    tensors = [name for name in safe if name.endswith(".safetensors") and not _matches(name, _DUPLICATES)]
    return [name for name in safe if not _matches(name, _DUPLICATES)] if tensors else safe


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)


def hub_client(authorities: str | None) -> httpx.Client:
    """A client that minds proxies of the environment; `authorities` is a PEM file of further ones."""
    context = forgiving(ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or None))
    if authorities:
        context.load_verify_locations(authorities)
    return httpx.Client(verify=context, timeout=30, follow_redirects=False)

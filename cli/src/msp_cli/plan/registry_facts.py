"""What the registry tells of a model: its manifest, and the configuration that it serves in the Hub's way."""

import json
from typing import Any
from urllib.parse import quote

import httpx

from msp_cli.plan.facts import FactsMissing, ModelFacts
from msp_cli.plan.model_config import read_config
from msp_cli.registry_api import RegistryApi, ServiceRefused, asked
from msp_common.contracts.models import ManifestFile, ModelInfo

_SUFFIXES = {"safetensors": (".safetensors",), "gguf": (".gguf",), "pickle": (".bin", ".pt", ".pth")}


class RegistryFacts:
    """Asks one registry. Raises ServiceAnsweredBadly where that gives no answer."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._api = RegistryApi(client, url, None)

    async def of(self, model_id: str, revision: str) -> ModelFacts:
        """The facts of what a revision names. Also raises FactsMissing."""
        try:
            info = await self._api.info(model_id, revision)
        except ServiceRefused as error:
            if error.status != 404:
                raise
            raise FactsMissing(
                f"{model_id} at {revision} is not in the registry {self._url}; bring it there with "
                f"msp models pull {model_id}, or name its folder with --folder {model_id}=PATH"
            ) from None
        return facts_of(info, await self._config(info))

    async def _config(self, info: ModelInfo) -> dict[str, Any]:
        if not any(file.path == "config.json" for file in info.manifest.files):
            return {}
        path = f"/{quote(info.id)}/resolve/{info.commit}/config.json"
        try:
            answer = await asked(self._client, "GET", f"{self._url}{path}", follow_redirects=True)
            config = json.loads(answer.content)
        except ServiceRefused as error:
            raise FactsMissing(f"{info.id}: its config.json is not served: {error}") from None
        except ValueError as error:
            raise FactsMissing(f"{info.id}: its config.json is no JSON: {error}") from None
        return config if isinstance(config, dict) else {}


def facts_of(info: ModelInfo, config: dict[str, Any]) -> ModelFacts:
    """A registry's answer and a configuration, put together. Pure."""
    manifest = info.manifest
    return ModelFacts(
        id=info.id,
        revision=info.revision,
        format=manifest.format,
        parameters=manifest.parameters,
        weight_file_bytes=sum(
            file.size_bytes for file in manifest.files if _holds_weights(file, manifest.format)
        ),
        stored_dtype=manifest.dtype,
        config=read_config(
            config, sentence_transformer=any(file.path == "modules.json" for file in manifest.files)
        ),
        requires_remote_code=manifest.requires_remote_code,
        bad_files=len(info.quarantined),
    )


def _holds_weights(file: ManifestFile, kind: str) -> bool:
    # Some repositories hold the weights a second time, in another program's cut.
    name = file.path.rpartition("/")[2]
    return name.endswith(_SUFFIXES.get(kind, ())) and not name.startswith("consolidated")

"""Bills of materials of a bundle, as CycloneDX 1.6 JSON, and the page for whoever has to let it in.

Only what can be checked is stated: hashes, commits, versions, and the licence that a file or package names.
The same bundle gives the same bytes: no time and no random number is written.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from msp_common.contracts.models import Licence, Manifest
from msp_common.snapshots import MANIFEST_PATH


@dataclass(frozen=True)
class Image:
    """One line of images.lock."""

    ref: str
    index: str
    manifest: str
    config: str
    layers: str
    bytes: str
    file: str


@dataclass(frozen=True)
class LockedModel:
    """One line of models.lock."""

    id: str
    revision: str
    commit: str
    bytes: str
    licence: str
    folder: str


def images_of(text: str) -> list[Image]:
    """images.lock."""
    return [Image(*line.split("\t")) for line in text.splitlines()]


def models_of(text: str) -> list[LockedModel]:
    """models.lock."""
    return [LockedModel(*line.split("\t")) for line in text.splitlines()]


def write(bundle: Path, version: str) -> Iterator[Path]:
    """Write `bom/` and MANIFEST.md; yields what was written."""
    images = images_of((bundle / "images.lock").read_text())
    models = models_of((bundle / "models.lock").read_text())
    folder = bundle / "bom"
    folder.mkdir(exist_ok=True)
    documents = {"images.cdx.json": document("images", version, [image_component(i) for i in images])}
    manifests = [(model, _manifest(bundle, model)) for model in models]
    documents["models.cdx.json"] = document(
        "models", version, [model_component(model, manifest) for model, manifest in manifests]
    )
    for path in sorted((bundle / "bom").glob("*.packages.json")):
        name = path.name.removesuffix(".packages.json")
        packages = json.loads(path.read_text())
        documents[f"{name}.cdx.json"] = document(name, version, [package_component(p) for p in packages])
    for file_name, made in documents.items():
        path = folder / file_name
        path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
        yield path
    page = bundle / "MANIFEST.md"
    page.write_text(officers_page(version, images, models))
    yield page


def document(subject: str, version: str, components: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A CycloneDX document."""
    listed = sorted(components, key=lambda c: (c["name"], c.get("version", "")))
    content = json.dumps(listed, sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'{subject}/{version}/{content}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": f"model-service-platform-{subject}",
                "version": version,
            }
        },
        "components": listed,
    }


def image_component(image: Image) -> dict[str, Any]:
    """A container image. Its hash is that of its configuration, which names the layers by theirs."""
    name, _, tag = image.ref.rpartition(":")
    properties = {
        "msp:indexDigest": image.index,
        "msp:manifestDigest": image.manifest,
        "msp:layers": image.layers,
    }
    return {
        "type": "container",
        "bom-ref": f"image:{image.ref}",
        "name": name,
        "version": tag,
        "hashes": [{"alg": "SHA-256", "content": image.config.removeprefix("sha256:")}],
        "properties": _properties({k: v for k, v in properties.items() if v != "-"}),
    }


def package_component(package: Mapping[str, str]) -> dict[str, Any]:
    """A Python package of an image."""
    name, version = package["name"], package["version"]
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name.lower()}@{version}",
        "purl": f"pkg:pypi/{name.lower()}@{version}",
        "name": name,
        "version": version,
    }
    if package.get("expression"):
        made["licenses"] = [{"expression": package["expression"]}]
    elif package.get("licence"):
        made["licenses"] = [{"license": {"name": package["licence"]}}]
    return made


def model_component(model: LockedModel, manifest: Manifest | None) -> dict[str, Any]:
    """A model at a commit; without a manifest, one that an earlier bundle carries."""
    made: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"pkg:huggingface/{model.id}@{model.commit}",
        "purl": f"pkg:huggingface/{model.id}@{model.commit}",
        "name": model.id,
        "version": model.commit,
        "properties": _properties({"msp:revision": model.revision, "msp:bytes": model.bytes}),
    }
    if manifest is None:
        return made
    if licences := _licences(manifest.licence):
        made["licenses"] = licences
    made["properties"] += _properties({"msp:source": manifest.source, "msp:format": manifest.format})
    made["components"] = [
        {
            "type": "file",
            "bom-ref": f"{made['bom-ref']}#{file.path}",
            "name": file.path,
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        }
        for file in manifest.files
    ]
    return made


def officers_page(version: str, images: Sequence[Image], models: Sequence[LockedModel]) -> str:
    """What is in the bundle, on one page, for people."""
    lines = [
        f"# Model Service Platform {version}: what this bundle holds",
        "",
        "Every file is listed with its SHA-256 in `SHA256SUMS`: `sha256sum -c SHA256SUMS`. Where there is",
        "a `SHA256SUMS.sig`, the list is signed: docs/AIR-GAP.md says how to look at it. `bom/` has the",
        "bills of materials in CycloneDX form, `licences/` the licence texts of packages. What says `base`",
        "is carried by the earlier bundle.",
        "",
        "| image | bytes | configuration | carried as |",
        "|---|---|---|---|",
        *(f"| `{i.ref}` | {i.bytes} | `{i.config[:19]}` | {i.file} |" for i in images),
        "",
        "| model | revision | commit | bytes | licence | carried as |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{m.id}` | {m.revision} | `{m.commit[:12]}` | {m.bytes} | {_cell(m.licence)} | {m.folder} |"
            for m in models
        ),
        "",
        "The object store (`pgsty/silo`, a fork of MinIO) is under the AGPL-3.0; its source is at",
        "https://github.com/pgsty/silo, at the tag that the image names.",
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/")


def _licences(licence: Licence) -> list[dict[str, Any]]:
    name = licence.name or licence.id
    if name is None:
        return []
    return [{"license": {"name": name, **({"url": licence.link} if licence.link else {})}}]


def _manifest(bundle: Path, model: LockedModel) -> Manifest | None:
    if model.folder == "base":
        return None
    return Manifest.model_validate_json((bundle / model.folder / MANIFEST_PATH).read_bytes())


def _properties(facts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(facts.items())]

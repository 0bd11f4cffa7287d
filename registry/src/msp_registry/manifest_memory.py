"""The manifests that a catalogue has read, within bounds, and none that was replaced or deleted meanwhile."""

from collections import OrderedDict
from dataclasses import dataclass

from msp_common.contracts.models import Manifest

MAX_FILES = 200_000
"""In all manifests together, since one may list 100,000 files. A file takes about 1.2 kB of memory."""


@dataclass(frozen=True)
class Outline:
    """What the list of models tells of a manifest: small enough to be remembered for every snapshot."""

    total_bytes: int
    format: str
    parameters: int | None


class ManifestMemory:
    """Manifests by model and commit; those that were asked for last stay longest."""

    def __init__(self, max_files: int = MAX_FILES) -> None:
        self._max_files = max_files
        self._manifests: OrderedDict[tuple[str, str], Manifest] = OrderedDict()
        self._files = 0
        self._outlines: dict[tuple[str, str], Outline] = {}
        self.forgettings = 0
        """How often something was forgotten. Whoever reads notes it before, and hands it to `keep`."""

    def get(self, repo_id: str, commit: str) -> Manifest | None:
        """None when it is not remembered."""
        known = self._manifests.get((repo_id, commit))
        if known is not None:
            self._manifests.move_to_end((repo_id, commit))
        return known

    def outline(self, repo_id: str, commit: str) -> Outline | None:
        """None when the manifest was never read."""
        return self._outlines.get((repo_id, commit))

    def keep(self, manifest: Manifest, *, forgettings: int) -> None:
        """Remember it, unless it may have been replaced or deleted since it was read."""
        if forgettings != self.forgettings:
            return
        key = manifest.repo_id, manifest.commit
        self._outlines[key] = outlined(manifest)
        self._drop(key)
        self._manifests[key] = manifest
        self._files += len(manifest.files)
        while self._files > self._max_files and len(self._manifests) > 1:
            self._drop(next(iter(self._manifests)))

    def forget(self, repo_id: str, commit: str | None) -> None:
        """One commit of a model, or all."""
        self.forgettings += 1
        for key in [k for k in self._outlines if k[0] == repo_id and commit in (None, k[1])]:
            del self._outlines[key]
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        manifest = self._manifests.pop(key, None)
        self._files -= len(manifest.files) if manifest else 0


def outlined(manifest: Manifest) -> Outline:
    """Its outline."""
    return Outline(manifest.total_bytes, manifest.format, manifest.parameters)

"""Run in an image's own Python: its packages as JSON, or with `texts` their licence texts."""

import json
import sys
from importlib.metadata import Distribution, distributions


def facts(found: Distribution) -> dict[str, str]:
    """What a package says of itself; a classifier where it names no licence otherwise."""
    metadata = found.metadata
    classifiers = metadata.get_all("Classifier") or []
    licences = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License")]
    said = (metadata.get("License") or "").strip()
    # Some put the whole text where a name belongs.
    named = said if said and "\n" not in said and len(said) < 80 else ", ".join(licences)
    return {
        "name": metadata["Name"],
        "version": found.version,
        "expression": metadata.get("License-Expression") or "",
        "licence": named,
    }


_NAMES = ("LICENSE", "LICENCE", "NOTICE", "COPYING", "AUTHORS")


def licence_texts(found: Distribution) -> list[str]:
    """The texts of the files in which it carries its licence."""
    texts = []
    for file in found.files or []:
        name = file.name.upper()
        if ".dist-info" in str(file) and name.startswith(
            ("LICENSE", "LICENCE", "NOTICE", "COPYING", "AUTHORS")
        ):
            text = file.locate().read_text(errors="replace") if file.locate().is_file() else ""
            texts.append(f"==== {found.metadata['Name']} {found.version}: {file.name}\n{text}\n")
    return texts


ordered = sorted(distributions(), key=lambda d: d.metadata["Name"].lower())
if sys.argv[1:] == ["texts"]:
    print("\n".join(text for found in ordered for text in licence_texts(found)))
else:
    print(json.dumps([facts(found) for found in ordered], indent=1, sort_keys=True))

"""What a model's card and files say of its licence. Pure."""

import re

import yaml

from msp_common.contracts.models import Licence

_TEXT = re.compile(r"(licen[cs]e|notice|copying)([-._ ].*)?", re.IGNORECASE)


def is_licence_text(path: str) -> bool:
    """Whether it is a licence or notice, in any folder: LICENSE, LICENSE-MODEL.md, NOTICE, COPYING."""
    return _TEXT.fullmatch(path.rsplit("/", 1)[-1]) is not None


def licence_of(card: str) -> Licence:
    """From the model card's front matter; a card that cannot be read says nothing."""
    if not card.startswith("---"):
        return Licence()
    front = card.removeprefix("---").split("\n---", 1)[0]
    try:
        data = yaml.safe_load(front)
    except (yaml.YAMLError, RecursionError, ValueError):
        return Licence()
    if not isinstance(data, dict):
        return Licence()

    def text(name: str) -> str | None:
        value = data.get(name)
        return value[:500] if isinstance(value, str) else None

    return Licence(id=text("license"), name=text("license_name"), link=text("license_link"))

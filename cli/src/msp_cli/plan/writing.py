"""Putting the planned files in their place: shown first, and never over somebody's own without leave."""

import difflib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Change:
    """A file as it is, and as it is to be."""

    path: Path
    old: str | None
    new: str
    context: int = 3
    """Lines around a change that are shown; 0 for files with secrets in them."""

    @property
    def is_one(self) -> bool:
        """Whether anything changes."""
        return self.old != self.new

    @property
    def replaces(self) -> bool:
        """Whether something that is there would be lost."""
        return self.old is not None and self.is_one

    def diff(self) -> str:
        """What changes, as `diff -u` tells it."""
        name = self.path.name
        return "".join(
            difflib.unified_diff(
                (self.old or "").splitlines(keepends=True),
                self.new.splitlines(keepends=True),
                f"{name} as it is" if self.old is not None else "/dev/null",
                f"{name} as planned",
                n=self.context,
            )
        )

    def write(self) -> None:
        """Put the new text there, whole or not at all; who may read it stays as it was. Raises OSError."""
        mode = self.path.stat().st_mode & 0o777 if self.old is not None else 0o644
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(self.new)
                os.fchmod(file.fileno(), mode)
            os.replace(name, self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def read_if_there(path: Path) -> str | None:
    """The file's text; None where there is none. Raises OSError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None

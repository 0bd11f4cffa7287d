"""Tables that lose nothing: what does not fit a narrow terminal goes on in the next line."""

from rich.markup import escape
from rich.table import Table


def table(*columns: str) -> Table:
    """An empty table."""
    made = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for column in made.columns:
        column.overflow = "fold"
    return made


def cells(*texts: str) -> list[str]:
    """Texts that are shown as they are."""
    return [escape(text) for text in texts]

"""What each row of the cache holds, written down beside it. Pure bookkeeping, no tensors.

Rows 0 to `active` - 1 belong to requests that decode, without gaps, since a forward pass reads them as one
block. A request that is still being read has any other row; the rest remember what they held last.
"""

from dataclasses import dataclass, field


@dataclass(eq=False)
class Row:
    """One row: the keys of the tokens it holds. A key is a token id, or stands for a part of an image."""

    keys: list[int] = field(default_factory=list)
    used_at: int = 0
    """Number of the step that wrote it last."""
    busy: bool = False
    """Whether a running request owns it."""

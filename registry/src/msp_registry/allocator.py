"""How the C library treats memory that was freed."""

import ctypes

# From glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3

_KEPT_BYTES = 16 << 20
_MAPPED_FROM_BYTES = 4 << 20
"""Above what is read from a connection or a store at once, below what a part of a file takes."""


def keep_freed_chunks() -> None:
    """Keep some MiB that were freed instead of giving them back to the kernel at once.

    glibc would give the memory of a chunk back, and ask for it again with the next chunk: the kernel then
    clears it page by page, which costs as much as copying the chunk. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)

"""How the C library treats memory that was freed."""

import subprocess
import sys

CHUNKS = 2000
CHUNK_BYTES = 256 << 10
PAGE_BYTES = 4096

PROGRAM = f"""
import resource
from msp_registry.allocator import keep_freed_chunks
keep_freed_chunks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({CHUNKS}):
    chunk = b"x" * {CHUNK_BYTES}
    copy = chunk[1:]
    del chunk, copy
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_chunks_that_come_and_go_get_no_new_pages() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    # Each chunk anew would be two times 64 pages.
    assert int(done.stdout) < CHUNKS * CHUNK_BYTES // PAGE_BYTES // 10

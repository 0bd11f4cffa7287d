"""docs/TROUBLESHOOTING.md has a section for everything that doctor finds, and for nothing else."""

import re
from pathlib import Path

from msp_cli.doctor.findings import Code

PAGE = Path(__file__).resolve().parents[3] / "docs/TROUBLESHOOTING.md"


def test_the_page_has_one_heading_for_each_code() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    assert sorted(headings) == sorted(code.value for code in Code)

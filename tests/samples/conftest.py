"""Lets the tests ask the samples' own scripts for questions, held-out values and measures."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "samples" / "make"))

"""How thorough the tests with chance in them are: `--long` and `--seed=N` of pytest, by environment."""

import os

LONG = os.environ.get("MSP_LONG") == "1"
SEED = int(os.environ.get("MSP_SEED", "1"))

"""What keys used, by day, in the gateway's database."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from msp_common.contracts.keys import UsageLine
from msp_gateway.keys.database import telling
from msp_gateway.keys.tables import USAGE_DAILY

_SUMS = ("requests", "prompt_tokens", "completion_tokens", "audio_s", "gpu_s")


class UsageTable:
    """One row for each day, key and model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, lines: Sequence[UsageLine]) -> None:
        """Count these on top of what is there, all or none. Raises StoreAway."""
        if not lines:
            return
        kind: Any = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        put = kind.insert(USAGE_DAILY)
        put = put.on_conflict_do_update(
            index_elements=["day", "key_id", "model"],
            set_={name: USAGE_DAILY.c[name] + put.excluded[name] for name in _SUMS},
        )
        rows = [line.model_dump(exclude={"key_name"}) for line in lines]
        # In one order, so that two gateways do not lock each other's rows.
        rows.sort(key=lambda row: (row["day"], row["key_id"], row["model"]))
        with telling(self._engine), self._engine.begin() as connection:
            connection.execute(put, rows)

    def lines(self, since: date, until: date) -> Sequence[UsageLine]:
        """Those of the days from `since` to `until`, both included. Raises StoreAway."""
        asked = select(USAGE_DAILY).where(USAGE_DAILY.c.day >= since, USAGE_DAILY.c.day <= until)
        with telling(self._engine), self._engine.connect() as connection:
            return [UsageLine.model_validate(dict(row._mapping)) for row in connection.execute(asked)]

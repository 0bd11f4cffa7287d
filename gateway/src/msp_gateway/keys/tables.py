"""The tables of the gateway's database, as the newest migration leaves them."""

from sqlalchemy import JSON, BigInteger, Column, Date, Float, Integer, MetaData, String, Table

METADATA = MetaData()

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("allowed_models", JSON),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("concurrency", Integer),
    Column("weight", Integer, nullable=False),
)

KEYS_REVISION = Table(
    "keys_revision",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
)
"""One row, counted up by every change of a key."""

USAGE_DAILY = Table(
    "usage_daily",
    METADATA,
    Column("day", Date, primary_key=True),
    Column("key_id", String(64), primary_key=True),
    Column("model", String(255), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("audio_s", Float, nullable=False),
    Column("gpu_s", Float, nullable=False),
)

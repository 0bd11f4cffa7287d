"""Which databases the gateway can keep keys in, by URL. Light: the settings are read with it."""

FORMS = "sqlite:////path/to/file.db or postgresql://user:password@host/name"
_POSTGRESQL = ("postgresql://", "postgres://", "postgresql+psycopg://")


def database_url(text: str) -> str:
    """The URL with the driver's name in it. Raises ValueError, without the URL: it may hold a password."""
    for scheme in _POSTGRESQL:
        if text.startswith(scheme) and len(text) > len(scheme):
            return f"postgresql+psycopg://{text.removeprefix(scheme)}"
    path = text.removeprefix("sqlite:///")
    if path == text:
        raise ValueError(f"expected {FORMS}")
    if path in ("", "/", ":memory:") or path.startswith("?"):
        raise ValueError("keys must outlive the gateway: name a file, as in sqlite:////data/gateway.db")
    return text

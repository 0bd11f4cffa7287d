"""Which authorities a client reads before it asks."""

import ssl

from msp_cli.authorities import authorities_for


def test_where_tls_is_spoken_the_usual_authorities_are_asked_for() -> None:
    assert authorities_for("https://registry.example:8090") is True


def test_where_it_is_not_nobody_would_be_trusted() -> None:
    for url in ("http://registry:8090", "HTTP://registry:8090"):
        context = authorities_for(url)
        assert isinstance(context, ssl.SSLContext)
        assert (context.verify_mode, context.get_ca_certs()) == (ssl.CERT_REQUIRED, [])

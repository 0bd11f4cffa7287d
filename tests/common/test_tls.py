"""Private authorities that leave out what RFC 5280 asks for are trusted by every Python alike."""

import ssl

from msp_common.tls import forgiving, trust


def test_strictness_about_form_is_taken_away_and_nothing_else() -> None:
    strict = ssl.create_default_context()
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    before = strict.verify_flags
    context = forgiving(strict)
    assert context is strict
    assert context.verify_flags == before & ~ssl.VERIFY_X509_STRICT
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_whoever_asks_other_servers_is_not_strict() -> None:
    assert not trust(None).verify_flags & ssl.VERIFY_X509_STRICT

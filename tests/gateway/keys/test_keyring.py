"""Keys as requests meet them: from memory, and within a moment of every change."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from msp_common.api_keys import digest, id_of, new_key
from msp_common.contracts.keys import KeyChange, NewApiKey
from msp_common.errors import Unauthenticated
from msp_gateway.admission import ANONYMOUS
from msp_gateway.keys.authenticator import KeyAuthenticator, Mode
from msp_gateway.keys.keyring import Keyring
from msp_gateway.keys.store import StoreAway, StoredKey, UnknownKey
from support.gateway_cluster import GatewayClock
from support.gateway_keys import MemoryKeys, stored_key


def bearer(secret: str, scheme: str = "Bearer") -> str:
    return f"{scheme} {secret}"


async def ring_of(*keys: StoredKey) -> tuple[Keyring, MemoryKeys, GatewayClock]:
    store, clock = MemoryKeys({key.id: key for key in keys}), GatewayClock()
    keyring = Keyring(store, clock, poll_s=0.02)
    await keyring.read()
    return keyring, store, clock


def test_a_key_has_a_public_id_and_a_secret_that_cannot_be_guessed() -> None:
    made, other = new_key(), new_key()
    assert made.secret.startswith(f"msp-{made.id}-")
    assert id_of(made.secret) == made.id
    assert len(made.secret.rpartition("-")[2]) == 43
    assert made.sha256 == digest(made.secret) != other.sha256
    assert made.secret not in repr(made)


@pytest.mark.parametrize("text", ["", "msp", "msp-a", "msp--x", "sk-abc-" + "x" * 43, "msp-a-" + "é" * 43])
def test_what_is_not_written_as_a_key_is_none(text: str) -> None:
    assert id_of(text) is None


async def test_a_key_is_recognised_with_its_limits() -> None:
    key, secret = stored_key("team", concurrency=3)
    keyring, _, _ = await ring_of(key)
    identity = keyring.find(secret)
    assert identity is not None
    assert (identity.name, identity.key_id, identity.limits.concurrency) == ("team", key.id, 3)


async def test_neither_a_wrong_secret_nor_an_unknown_id_is_a_key() -> None:
    key, secret = stored_key()
    keyring, _, _ = await ring_of(key)
    assert keyring.find(secret[:-1] + ("a" if secret[-1] != "a" else "b")) is None
    assert keyring.find(new_key().secret) is None
    assert keyring.find("") is None


async def test_a_key_ends_at_its_time() -> None:
    key, secret = stored_key()
    keyring, _, clock = await ring_of(replace(key, expires_at=150.0))
    assert keyring.find(secret) is not None
    clock.now = 150
    assert keyring.find(secret) is None


async def test_a_revoked_key_works_no_more_at_once() -> None:
    key, secret = stored_key()
    keyring, store, clock = await ring_of(key)
    gone = await keyring.revoke(key.id)
    assert keyring.find(secret) is None
    assert gone.revoked_at == clock.now == store.kept[key.id].revoked_at
    clock.now += 5
    assert (await keyring.revoke(key.id)).revoked_at == gone.revoked_at


async def test_a_change_that_somebody_else_made_is_noticed() -> None:
    key, secret = stored_key()
    keyring, store, _ = await ring_of(key)
    following = asyncio.create_task(keyring.run())
    store.add(replace(key, revoked_at=1.0))
    await until(lambda: keyring.find(secret) is None)
    following.cancel()


async def test_keys_are_read_again_only_when_they_changed() -> None:
    key, _ = stored_key()
    keyring, store, _ = await ring_of(key)
    await keyring.read()
    assert store.loads == 1


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not wanted():  # noqa: ASYNC110  (the keyring looks by itself)
            await asyncio.sleep(0.01)


async def test_while_the_store_is_away_the_keys_that_were_read_last_hold() -> None:
    key, secret = stored_key()
    keyring, store, _ = await ring_of(key)
    following = asyncio.create_task(keyring.run())
    store.is_away = True
    await until(lambda: keyring.away == "the disk is gone")
    assert keyring.find(secret) is not None
    store.is_away = False
    await until(lambda: keyring.away is None)
    following.cancel()


async def test_a_store_that_is_away_at_the_start_is_no_empty_one() -> None:
    store = MemoryKeys(is_away=True)
    with pytest.raises(StoreAway):
        await Keyring(store).read()


async def test_a_new_key_works_at_once_and_its_secret_is_kept_nowhere() -> None:
    keyring, store, clock = await ring_of()
    key, secret = await keyring.create(NewApiKey(name="team", expires_at=900, tokens_per_minute=5))
    found = keyring.find(secret)
    assert found is not None
    assert found.limits.tokens_per_minute == 5
    assert (key.created_at, key.expires_at) == (clock.now, 900)
    assert secret not in repr(store.kept) + str(asdict(store.kept[key.id]))


async def test_only_what_was_sent_of_a_key_changes() -> None:
    key, _ = stored_key("team", concurrency=3, weight=2)
    keyring, _, _ = await ring_of(replace(key, expires_at=500.0))
    changed = await keyring.set(key.id, KeyChange(concurrency=None, requests_per_minute=9))
    assert (changed.limits.concurrency, changed.limits.requests_per_minute) == (None, 9)
    assert (changed.limits.weight, changed.expires_at) == (2, 500.0)
    assert (await keyring.set(key.id, KeyChange(expires_at=None))).expires_at is None
    with pytest.raises(UnknownKey):
        await keyring.set("nobody", KeyChange(weight=2))


async def test_changes_at_the_same_time_do_not_undo_each_other() -> None:
    key, _ = stored_key()
    keyring, store, _ = await ring_of(key)
    await asyncio.gather(
        keyring.set(key.id, KeyChange(concurrency=1)),
        keyring.set(key.id, KeyChange(weight=5)),
        keyring.revoke(key.id),
    )
    kept = store.kept[key.id]
    assert (kept.limits.concurrency, kept.limits.weight, kept.revoked_at is not None) == (1, 5, True)


@pytest.mark.parametrize(
    ("mode", "has_keys", "required"),
    [
        ("auto", False, "off"),
        ("auto", True, "on"),
        ("on", False, "on"),
        ("on", True, "on"),
        ("off", True, "off"),
    ],
)
async def test_when_a_key_is_required(mode: Mode, has_keys: bool, required: str) -> None:
    keyring, _, _ = await ring_of(*([stored_key()[0]] if has_keys else []))
    authenticator = KeyAuthenticator(keyring, mode)
    assert authenticator.mode == required
    if required == "off":
        assert authenticator.authenticate(bearer("anything")) is ANONYMOUS
    else:
        with pytest.raises(Unauthenticated):
            authenticator.authenticate(bearer("anything"))


async def test_a_gateway_whose_last_key_was_revoked_stays_closed() -> None:
    key, _ = stored_key()
    keyring, _, _ = await ring_of(replace(key, revoked_at=1.0))
    assert KeyAuthenticator(keyring, "auto").mode == "on"


async def test_a_gateway_whose_keys_are_gone_from_their_file_stays_closed() -> None:
    key, _ = stored_key()
    keyring, store, _ = await ring_of(key)
    store.kept.clear()
    store.revision += 1
    await keyring.read()
    assert list(keyring.keys()) == []
    assert KeyAuthenticator(keyring, "auto").mode == "on"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    key, secret = stored_key("team")
    keyring, _, _ = await ring_of(key)
    assert KeyAuthenticator(keyring, "auto").authenticate(bearer(secret, scheme)).name == "team"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {} more"])
async def test_other_forms_are_refused_with_a_challenge(header: str) -> None:
    key, secret = stored_key()
    keyring, _, _ = await ring_of(key)
    with pytest.raises(Unauthenticated) as refused:
        KeyAuthenticator(keyring, "auto").authenticate(header.format(secret))
    assert refused.value.code == "invalid_api_key"
    assert refused.value.headers()["WWW-Authenticate"] == "Bearer"
    assert secret not in refused.value.message

"""`python -m msp_registry.init_store`: make the bucket, and the one account that may use it.

Runs once before the registry and can be repeated at will: what is there already is left, the account's
secret is set to what the settings say. Exit codes: 0 done, 2 settings are wrong, 3 the server did not answer
in time, 4 the server refused.
"""

import logging
import sys
import time
from collections.abc import Callable

import urllib3
from minio import Minio
from minio.error import MinioAdminException, MinioException, S3Error

from msp_common.serving import load_or_exit
from msp_registry.accounts.minio_account import make_minio_account
from msp_registry.accounts.versitygw_account import VersitygwRefused, make_versitygw_account
from msp_registry.settings import InitStoreSettings
from msp_registry.stores.s3_endpoint import http_pool
from msp_registry.stores.s3_request import S3Account

EXIT_NO_ANSWER = 3
EXIT_REFUSED = 4

_POLL_S = 1.0
# Another init job may have made the bucket between our question and our request.
_BUCKET_IS_THERE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")

log = logging.getLogger(__name__)


class NoAnswer(Exception):
    """The server did not answer in time."""


class Refused(Exception):
    """The server answered, and refused."""


def make_bucket_and_account(
    settings: InitStoreSettings,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait for the server, then make what is missing. Raises NoAnswer and Refused."""
    endpoint = settings.s3_endpoint
    pool = http_pool()
    _wait_for(pool, endpoint.url, settings.wait_s, monotonic, sleep)
    try:
        _make(settings, pool)
    except S3Error as error:
        raise Refused(f"{endpoint.url} refused: {error.code}: {error.message}") from error
    except (MinioAdminException, VersitygwRefused) as error:
        raise Refused(f"{endpoint.url} refused: {error}") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise NoAnswer(f"{endpoint.url} went away: {error}") from error


def _wait_for(
    pool: urllib3.PoolManager,
    url: str,
    wait_s: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Any HTTP answer below 500 will do: whether the accounts are right is for the next request to say."""
    deadline = monotonic() + wait_s
    while True:
        try:
            # MinIO's own question; versitygw refuses it, which is an answer too.
            status = pool.request("GET", f"{url}/minio/health/live", retries=False, timeout=5).status
            if status < 500:
                return
            reason = f"HTTP {status}"
        except urllib3.exceptions.HTTPError as error:
            reason = str(error)
        if monotonic() >= deadline:
            raise NoAnswer(f"{url} did not answer within {wait_s:g} s: {reason}")
        log.info("waiting for %s: %s", url, reason)
        sleep(_POLL_S)


def _make(settings: InitStoreSettings, pool: urllib3.PoolManager) -> None:
    endpoint, bucket, user = settings.s3_endpoint, settings.minio_bucket, settings.minio_svc_user
    secret = settings.minio_svc_password.get_secret_value()
    root = S3Account(
        settings.minio_root_user, settings.minio_root_password.get_secret_value(), settings.minio_region
    )
    client = Minio(
        endpoint.host,
        access_key=root.access_key,
        secret_key=root.secret_key,
        secure=endpoint.secure,
        region=root.region,
        http_client=pool,
    )
    _make_bucket(client, bucket, root.region)
    if settings.store_kind == "minio":
        make_minio_account(pool, endpoint, root, user, secret, bucket)
    else:
        make_versitygw_account(pool, endpoint, root, client, user, secret, bucket)
    log.info("account %s may use bucket %s and nothing else", user, bucket)


def _make_bucket(client: Minio, bucket: str, region: str) -> None:
    if client.bucket_exists(bucket):
        log.info("bucket %s is there", bucket)
        return
    try:
        client.make_bucket(bucket, location=region)
    except S3Error as error:
        if error.code not in _BUCKET_IS_THERE:
            raise
    log.info("bucket %s made", bucket)


def main() -> None:
    """Run with the settings of the environment; ends the process with an exit code."""
    settings = load_or_exit(InitStoreSettings, "init-store")
    try:
        make_bucket_and_account(settings)
    except NoAnswer as error:
        log.error("%s; is MINIO_ENDPOINT right?", error)
        sys.exit(EXIT_NO_ANSWER)
    except Refused as error:
        log.error(
            "%s; are MINIO_ROOT_USER and MINIO_ROOT_PASSWORD the server's own, and is it a %s (MINIO_KIND)?",
            error,
            settings.store_kind,
        )
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()

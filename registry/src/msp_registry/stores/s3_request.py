"""One signed request to an S3 server's own interface, for which minio's clients have no call."""

from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import urllib3
from minio import time
from minio.credentials import Credentials
from minio.helpers import sha256_hash
from minio.signer import sign_v4_s3

from msp_registry.stores.s3_endpoint import S3Endpoint

_TIMEOUT = urllib3.Timeout(connect=5, read=30)


@dataclass(frozen=True)
class S3Account:
    """Who signs requests, and for which region."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str


def signed_request(
    pool: urllib3.PoolManager,
    endpoint: S3Endpoint,
    account: S3Account,
    method: str,
    path: str,
    *,
    query: dict[str, str] | None = None,
    body: bytes = b"",
) -> tuple[int, bytes]:
    """Status and body of the answer, whatever they are. Raises urllib3's HTTPError when there is none."""
    words = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted((query or {}).items()))
    url = urlsplit(f"{endpoint.url}{path}{'?' + words if words else ''}")
    digest = sha256_hash(body)
    date = time.utcnow()
    headers = sign_v4_s3(
        method=method,
        url=url,
        region=account.region,
        headers={
            "Host": url.netloc,
            "x-amz-date": time.to_amz_date(date),
            "x-amz-content-sha256": digest,
        },
        credentials=Credentials(account.access_key, account.secret_key),
        content_sha256=digest,
        date=date,
    )
    answer = pool.request(
        method, url.geturl(), body=body or None, headers=headers, retries=False, timeout=_TIMEOUT
    )
    return answer.status, answer.data

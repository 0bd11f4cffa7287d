"""The registry's account on versitygw: a user of the lowest role, and a policy on the one bucket.

versitygw has no policies of accounts. A user with role `user` may make no bucket and use none that is not
its own or opened to it by a bucket's policy. The bucket stays root's: the account cannot change the policy.
The requests are those of `versitygw admin create-user` and `update-user`, on the port that also serves S3.
"""

import json
import re
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.error import S3Error

from msp_registry.accounts.bucket_policy import bucket_policy
from msp_registry.stores.s3_endpoint import S3Endpoint
from msp_registry.stores.s3_request import S3Account, signed_request

_ROLE = "user"
_USER_IS_THERE = "XAdminUserExists"
_SINGLE_USER = "XAdminMethodNotSupported"

_CODE = re.compile(r"<Code>([^<]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")


class VersitygwRefused(Exception):
    """The server answered an admin request with an error."""


def make_versitygw_account(
    pool: urllib3.PoolManager,
    endpoint: S3Endpoint,
    root: S3Account,
    client: Minio,
    user: str,
    secret: str,
    bucket: str,
) -> None:
    """Make or renew the account. Raises VersitygwRefused, and minio's and urllib3's errors."""
    account = _xml("Account", Access=user, Secret=secret, Role=_ROLE)
    code, told = _request(pool, endpoint, root, "/create-user", {}, account)
    if code == _USER_IS_THERE:
        changes = _xml("MutableProps", Secret=secret, Role=_ROLE)
        code, told = _request(pool, endpoint, root, "/update-user", {"access": user}, changes)
    if code == _SINGLE_USER:
        told += "; start versitygw with --iam-dir, or with another of its account stores"
    if code is not None:
        raise VersitygwRefused(f"{code}: {told}")
    client.set_bucket_policy(bucket, json.dumps(bucket_policy(bucket, user, _policy_of(client, bucket))))


def _policy_of(client: Minio, bucket: str) -> bytes | None:
    try:
        policy: str = client.get_bucket_policy(bucket)
    except S3Error as error:
        if error.code == "NoSuchBucketPolicy":
            return None
        raise
    return policy.encode()


def _request(
    pool: urllib3.PoolManager,
    endpoint: S3Endpoint,
    root: S3Account,
    path: str,
    query: dict[str, str],
    body: bytes,
) -> tuple[str | None, str]:
    """The error's code, None when all is well, and its message."""
    status, answer = signed_request(pool, endpoint, root, "PATCH", path, query=query, body=body)
    if status < 400:
        return None, ""
    text = answer.decode(errors="replace")
    code, told = _CODE.search(text), _MESSAGE.search(text)
    return code[1] if code else f"HTTP {status}", told[1] if told else text[:200]


def _xml(root: str, **children: str) -> bytes:
    element = ElementTree.Element(root)
    for name, text in children.items():
        ElementTree.SubElement(element, name).text = text
    return ElementTree.tostring(element)

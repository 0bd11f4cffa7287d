"""The registry's account on MinIO and its forks: a user with a policy of its own."""

import urllib3
from minio.credentials import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin

from msp_registry.accounts.bucket_policy import account_policy
from msp_registry.stores.s3_endpoint import S3Endpoint
from msp_registry.stores.s3_request import S3Account

_POLICY_IS_ATTACHED = "XMinioAdminPolicyChangeAlreadyApplied"


def make_minio_account(
    pool: urllib3.PoolManager, endpoint: S3Endpoint, root: S3Account, user: str, secret: str, bucket: str
) -> None:
    """Make or renew the account. Raises minio's and urllib3's errors."""
    admin = MinioAdmin(
        endpoint=endpoint.host,
        credentials=StaticProvider(root.access_key, root.secret_key),
        secure=endpoint.secure,
        http_client=pool,
    )
    policy = f"msp-{bucket}"
    admin.policy_add(policy, policy=account_policy(bucket))
    admin.user_add(user, secret)
    try:
        admin.attach_policy([policy], user=user)
    except MinioAdminException as error:
        if _POLICY_IS_ATTACHED not in str(error):
            raise

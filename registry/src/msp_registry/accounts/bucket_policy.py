"""What the registry's account may do: everything with the objects of one bucket, and nothing else."""

import json
from typing import Any

from msp_registry.stores.minio_capacity import STORAGE_INFO_ACTION

_BUCKET_ACTIONS = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
_OBJECT_ACTIONS = [
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
]
_VERSION = "2012-10-17"


def account_policy(bucket: str) -> dict[str, Any]:
    """MinIO's kind, attached to the account. The one thing beyond the bucket is how full the drives are."""
    return {
        "Version": _VERSION,
        "Statement": [
            *_statements(bucket),
            {"Effect": "Allow", "Action": [STORAGE_INFO_ACTION], "Resource": ["arn:aws:s3:::*"]},
        ],
    }


def bucket_policy(bucket: str, account: str, existing: bytes | None = None) -> dict[str, Any]:
    """versitygw's kind, attached to the bucket; statements that others have put there are kept."""
    kept = []
    if existing:
        kept = [s for s in json.loads(existing).get("Statement", []) if not _is_ours(s)]
    ours = [
        {"Sid": f"msp-registry-{what}", "Principal": {"AWS": [account]}, **statement}
        for what, statement in zip(("bucket", "objects"), _statements(bucket), strict=True)
    ]
    return {"Version": _VERSION, "Statement": [*kept, *ours]}


def _is_ours(statement: dict[str, Any]) -> bool:
    return str(statement.get("Sid", "")).startswith("msp-registry-")


def _statements(bucket: str) -> list[dict[str, Any]]:
    return [
        {"Effect": "Allow", "Action": _BUCKET_ACTIONS, "Resource": [f"arn:aws:s3:::{bucket}"]},
        {"Effect": "Allow", "Action": _OBJECT_ACTIONS, "Resource": [f"arn:aws:s3:::{bucket}/*"]},
    ]

"""How much room a MinIO server has left, which S3 itself has no question for."""

from typing import Any

import urllib3
from pydantic import BaseModel, Field, ValidationError

from msp_registry.stores.s3_endpoint import S3Endpoint
from msp_registry.stores.s3_request import S3Account, signed_request

STORAGE_INFO_ACTION = "admin:StorageInfo"
"""The one administrative action that it takes: it tells of drives, and of no bucket and no account."""


class _Drive(BaseModel):
    availspace: int = 0
    pool_index: int = 0
    disk_index: int = 0


class _Backend(BaseModel):
    data_drives: list[int] = Field(alias="StandardSCData")


class _StorageInfo(BaseModel):
    drives: list[_Drive] = Field(alias="Disks")
    backend: _Backend = Field(alias="Backend")


def minio_free_bytes(pool: urllib3.PoolManager, endpoint: S3Endpoint, account: S3Account) -> int | None:
    """None if the server is no MinIO, or the account may not ask. Raises urllib3's HTTPError."""
    status, body = signed_request(pool, endpoint, account, "GET", "/minio/admin/v3/storageinfo")
    return usable_free_bytes(body) if status == 200 else None


def usable_free_bytes(storage_info: bytes | dict[str, Any]) -> int | None:
    """Free bytes of the drives that hold data and not parity, as MinIO counts its own usable capacity."""
    try:
        if isinstance(storage_info, bytes):
            told = _StorageInfo.model_validate_json(storage_info)
        else:
            told = _StorageInfo.model_validate(storage_info)
    except ValidationError:
        return None
    data_drives = told.backend.data_drives
    counted = [
        drive.availspace
        for drive in told.drives
        if 0 <= drive.pool_index < len(data_drives) and drive.disk_index < data_drives[drive.pool_index]
    ]
    return sum(counted) if counted else None

"""Settings of the registry and of its one-shot `init_store`."""

import os
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from msp_common.settings import HttpUrl, Settings
from msp_registry.stores.s3_endpoint import S3Endpoint, parse_endpoint


def _store(text: str) -> str:
    if text == "s3":
        return text
    url = urlsplit(text)
    if url.scheme != "file" or url.netloc not in ("", "localhost") or not url.path.startswith("/"):
        raise ValueError("expected s3, or file:///absolute/path")
    return text


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


def _without_password(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError(
            "expected an address without name and password, for /health and manifests tell it to everybody; "
            "set HF_TOKEN instead"
        )
    return url


def _hours(text: str) -> str:
    if text != "off" and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError("expected HH:MM-HH:MM, or off")
    return text


def _folders(value: object) -> object:
    return value.split(os.pathsep) if isinstance(value, str) else value


def _absolute(folders: list[Path]) -> list[Path]:
    for folder in folders:
        if not folder.is_absolute():
            raise ValueError(f"{str(folder)!r} is no absolute path")
    return folders


HubUrl = Annotated[HttpUrl, AfterValidator(_without_password)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


class RegistrySettings(Settings):
    """Settings of the registry."""

    model_config = SettingsConfigDict(env_prefix="REGISTRY_")
    owned_prefixes: ClassVar[tuple[str, ...]] = ("REGISTRY_",)

    host: str = "0.0.0.0"
    """Address to listen on."""

    port: int = Field(default=8090, ge=1, le=65535)
    """Port to listen on."""

    mode: Literal["online", "offline"] = "online"
    """`offline`: there is no hub client and no token; models come only by import."""

    store: Annotated[str, AfterValidator(_store)] = "s3"
    """Where models rest: `s3` (see MINIO_ENDPOINT and following), or `file:///absolute/path` of a folder."""

    s3_prefix: str = ""
    """Key prefix inside the bucket, for a bucket that others use too."""

    presign: Literal["on", "off"] = "off"
    """`on`: answers carry signed URLs of the S3 store, which workers must then reach by MINIO_ENDPOINT's
    name; `off`: bytes come through the registry."""

    presign_ttl_s: int = Field(default=3600, ge=60, le=604_800)
    """How long a signed URL holds, in seconds."""

    quota_bytes: int | None = Field(default=None, ge=0)
    """Most bytes that the store may hold; a snapshot that does not fit is refused. Unset: no limit."""

    parallel_jobs: int = Field(default=2, ge=1, le=32)
    """Jobs that run at once; others wait."""

    parallel_files: int = Field(default=4, ge=1, le=64)
    """Files of one job on their way at once."""

    parallel_parts: int = Field(default=8, ge=1, le=64)
    """Ranged requests on their way at once, of all jobs together."""

    window_bytes: int = Field(default=256 << 20, ge=64 << 20)
    """Most bytes of files held in memory, of all jobs together."""

    stall_timeout_s: float = Field(default=30, gt=0)
    """How long a download may bring no byte before it is asked for anew."""

    store_patience_s: float = Field(default=300, ge=0)
    """How long a job waits for a store that does not answer before it fails."""

    import_roots: Annotated[list[Path], BeforeValidator(_folders), AfterValidator(_absolute)] = []
    """Folders, separated by `:`, below which folders and tars may be imported. Unset: none may."""

    import_s3_endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """Another S3 server, from which `s3://bucket/prefix` may be imported. Unset: none may."""

    import_s3_access_key: str | None = None
    """Access key for that server."""

    import_s3_secret_key: SecretStr | None = None
    """Secret key for that server."""

    import_s3_region: str = "us-east-1"
    """The region that requests to that server are signed for."""

    scrub_hours: Annotated[str, AfterValidator(_hours)] = "01:00-05:00"
    """When everything is read back and compared, in the local time of the registry (`TZ`): `HH:MM-HH:MM`,
    which may pass midnight; `off` for never."""

    scrub_every_days: float = Field(default=30, gt=0)
    """How old a snapshot's last verification may become before it is due for another."""

    scrub_bytes_per_s: int = Field(default=50_000_000, ge=1 << 20)
    """How fast the scrub may read."""

    admin_token: SecretStr | None = None
    """When set, changing routes need `Authorization: Bearer` with it."""

    cluster_token: SecretStr | None = Field(default=None, validation_alias="CLUSTER_TOKEN")
    """What workers show; it allows them to ask for a download, and nothing else."""

    minio_endpoint: Endpoint = Field(default="minio:9000", validation_alias="MINIO_ENDPOINT")
    """The S3 server: `host:port` (plain HTTP), `http://host:port` or `https://host:port`."""

    minio_svc_user: str | None = Field(default=None, validation_alias="MINIO_SVC_USER")
    """Access key of the account that is limited to the bucket. Required with `REGISTRY_STORE=s3`."""

    minio_svc_password: SecretStr | None = Field(default=None, validation_alias="MINIO_SVC_PASSWORD")
    """Secret key of that account. Required with `REGISTRY_STORE=s3`."""

    minio_bucket: Bucket = Field(default="models", validation_alias="MINIO_BUCKET")
    """The bucket."""

    minio_region: str = Field(default="us-east-1", validation_alias="MINIO_REGION")
    """The region that requests are signed for."""

    hf_endpoint: HubUrl = Field(default="https://huggingface.co", validation_alias="HF_ENDPOINT")
    """The hub that models are mirrored from."""

    hf_token: SecretStr | None = Field(default=None, validation_alias="HF_TOKEN")
    """Token for gated and private models; sent to HF_ENDPOINT's own origin only."""

    extra_ca_file: Path | None = Field(default=None, validation_alias="EXTRA_CA_FILE")
    """PEM file of certificate authorities that are trusted beside the usual ones, for the hub and proxies."""

    service_registry_url: HttpUrl | None = Field(default=None, validation_alias="SERVICE_REGISTRY_URL")
    """Who is asked whether a worker uses a model that is to be deleted. Unset: nobody is asked."""

    @model_validator(mode="after")
    def _s3_needs_an_account(self) -> Self:
        if self.folder is None and not (self.minio_svc_user and self.minio_svc_password):
            raise ValueError(
                "REGISTRY_STORE=s3 needs MINIO_SVC_USER and MINIO_SVC_PASSWORD; "
                "set them, or REGISTRY_STORE=file:///a/folder"
            )
        return self

    @property
    def folder(self) -> Path | None:
        """The store's folder; None when it is S3."""
        return None if self.store == "s3" else Path(unquote(urlsplit(self.store).path))

    @property
    def s3_endpoint(self) -> S3Endpoint:
        """MINIO_ENDPOINT, read."""
        return parse_endpoint(self.minio_endpoint)


class InitStoreSettings(Settings):
    """Settings of `python -m msp_registry.init_store`."""

    minio_endpoint: Endpoint = Field(default="minio:9000", validation_alias="MINIO_ENDPOINT")
    """The S3 server: `host:port` (plain HTTP), `http://host:port` or `https://host:port`."""

    store_kind: Literal["minio", "versitygw"] = Field(default="minio", validation_alias="MINIO_KIND")
    """How that server makes accounts: `minio` (also its forks) by MinIO's admin API, `versitygw` by its own
    and a bucket policy."""

    minio_root_user: str = Field(validation_alias="MINIO_ROOT_USER")
    """The server's root account; used by this job and by nothing else."""

    minio_root_password: SecretStr = Field(validation_alias="MINIO_ROOT_PASSWORD")
    """The root account's secret."""

    minio_svc_user: str = Field(min_length=3, validation_alias="MINIO_SVC_USER")
    """Access key of the account to make, limited to the bucket; at least 3 characters."""

    minio_svc_password: SecretStr = Field(min_length=8, validation_alias="MINIO_SVC_PASSWORD")
    """Its secret key; at least 8 characters. Running the job again after a change sets it anew."""

    minio_bucket: Bucket = Field(default="models", validation_alias="MINIO_BUCKET")
    """The bucket to make."""

    minio_region: str = Field(default="us-east-1", validation_alias="MINIO_REGION")
    """The region that requests are signed for."""

    wait_s: float = Field(default=60, gt=0, validation_alias="MINIO_WAIT_S")
    """How long to wait for the server to answer, in seconds."""

    @model_validator(mode="after")
    def _two_accounts(self) -> Self:
        if self.minio_svc_user == self.minio_root_user:
            raise ValueError("MINIO_SVC_USER must differ from MINIO_ROOT_USER: it is to be a limited account")
        return self

    @property
    def s3_endpoint(self) -> S3Endpoint:
        """MINIO_ENDPOINT, read."""
        return parse_endpoint(self.minio_endpoint)

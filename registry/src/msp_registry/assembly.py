"""The registry's parts, put together from its settings: the one place where they are made."""

import asyncio
import logging
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx

from msp_registry.archives.archives import Archives
from msp_registry.catalogue import Catalogue
from msp_registry.hub.client import Hub, HubClient, Sleep
from msp_registry.hub.http import http_client
from msp_registry.hub.mirror import Mirror
from msp_registry.imports.importing import Importer
from msp_registry.imports.intake import Intake
from msp_registry.imports.places import ImportPlaces
from msp_registry.imports.s3_prefix import OtherS3
from msp_registry.jobs.jobs import Jobs
from msp_registry.jobs.work import work_of
from msp_registry.metrics import Metrics
from msp_registry.routes.context import Parts
from msp_registry.settings import RegistrySettings
from msp_registry.stores.folder_store import FolderStore
from msp_registry.stores.patient_store import PatientStore
from msp_registry.stores.s3_endpoint import parse_endpoint
from msp_registry.stores.s3_store import S3Store
from msp_registry.stores.store import ObjectStore, StoreError
from msp_registry.transfers.transfer import Transfer
from msp_registry.upkeep.collecting import Collector
from msp_registry.upkeep.quarantine import Quarantine
from msp_registry.upkeep.scrub_schedule import quiet_hours
from msp_registry.upkeep.scrubbing import Scrubber
from msp_registry.upkeep.store_watch import StoreWatch
from msp_registry.upkeep.verifying import Verifier
from msp_registry.usage import NobodyAsked, ServiceRegistryUsage, Usage

_RETRY_STORE_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collaborators:
    """What a test hands in; what is None is made from the settings."""

    store: ObjectStore | None = None
    hub: Hub | None = None
    """Not used in offline mode."""
    usage: Usage | None = None
    sleep: Sleep = asyncio.sleep


async def assemble(
    settings: RegistrySettings, metrics: Metrics, given: Collaborators, stack: AsyncExitStack
) -> Parts:
    """All parts, none of them at work yet; connections are closed with the stack."""
    # A job waits for a store that is away, a request does not.
    store = given.store or open_store(settings)
    patient = PatientStore(
        store, patience_s=settings.store_patience_s, sleep=given.sleep, clock=time.monotonic
    )
    catalogue = Catalogue(store)
    patient_catalogue = catalogue.over(patient)
    quarantine = Quarantine(patient)
    usage = given.usage or await _usage(settings, stack)
    transfer = Transfer(
        patient,
        window_bytes=settings.window_bytes,
        parallel_files=settings.parallel_files,
        parallel_parts=settings.parallel_parts,
    )
    hub = None
    if settings.mode == "online":
        hub = given.hub or await _hub(settings, given.sleep, metrics, stack)
    mirror = None
    if hub is not None:
        mirror = Mirror(hub, transfer, patient, patient_catalogue, quota_bytes=settings.quota_bytes)
    places = ImportPlaces(settings.import_roots, _other_s3(settings))
    intake = Intake(patient, patient_catalogue, transfer, quarantine, quota_bytes=settings.quota_bytes)
    verifier = Verifier(
        patient,
        patient_catalogue,
        quarantine,
        metrics,
        repairer=mirror,
        source=hub.endpoint if hub else None,
    )
    jobs = Jobs(
        patient,
        work_of(mirror=mirror, importer=Importer(places, intake), verifier=verifier),
        parallel=settings.parallel_jobs,
        clock=time.time,
        new_id=lambda: uuid.uuid4().hex,
        metrics=metrics,
    )
    hours = quiet_hours(settings.scrub_hours)
    scrubber = None
    if hours is not None:
        scrubber = Scrubber(
            patient,
            patient_catalogue,
            jobs,
            quarantine,
            verifier,
            metrics,
            hours=hours,
            every_days=settings.scrub_every_days,
            bytes_per_s=settings.scrub_bytes_per_s,
            clock=time.time,
            monotonic=time.monotonic,
            sleep=given.sleep,
        )
    metrics.watch(
        census=lambda: catalogue.census,
        quarantined_files=quarantine.files,
        jobs_running=lambda: jobs.running,
        scrub_last_run=lambda: scrubber.last_run_at if scrubber else None,
    )
    return Parts(
        store=store,
        catalogue=catalogue,
        jobs=jobs,
        archives=Archives(store, quarantine, intake),
        collector=Collector(store, catalogue, jobs, quarantine, usage, clock=time.time),
        quarantine=quarantine,
        scrubber=scrubber,
        usage=usage,
        metrics=metrics,
        clock=time.time,
        hub_endpoint=hub.endpoint if hub else None,
        import_places=places,
        presign_ttl_s=settings.presign_ttl_s if settings.presign == "on" else None,
        admin_token=settings.admin_token.get_secret_value() if settings.admin_token else None,
        cluster_token=settings.cluster_token.get_secret_value() if settings.cluster_token else None,
    )


async def run(parts: Parts, sleep: Sleep) -> None:
    """What goes on beside requests: make the store ready as soon as it lets us, go on with jobs, scrub.

    `/health` is down until the store is ready.
    """
    while True:
        try:
            await parts.store.prepare()
            await parts.quarantine.restore()
            await parts.jobs.restore()
        except StoreError as error:
            log.error("the store cannot be used yet, trying again in %.0f s: %s", _RETRY_STORE_S, error)
            await sleep(_RETRY_STORE_S)
        else:
            break
    log.info("the store can be used")
    async with asyncio.TaskGroup() as beside:
        beside.create_task(StoreWatch(parts.store, parts.catalogue, parts.metrics, sleep).run())
        if parts.scrubber is not None:
            beside.create_task(parts.scrubber.run())


def open_store(settings: RegistrySettings) -> ObjectStore:
    """The store that the settings name."""
    if settings.folder is not None:
        return FolderStore(settings.folder)
    if settings.minio_svc_user is None or settings.minio_svc_password is None:
        raise ValueError("an S3 store needs an account")
    return S3Store(
        settings.s3_endpoint,
        access_key=settings.minio_svc_user,
        secret_key=settings.minio_svc_password.get_secret_value(),
        bucket=settings.minio_bucket,
        region=settings.minio_region,
        prefix=settings.s3_prefix,
    )


async def _hub(settings: RegistrySettings, sleep: Sleep, metrics: Metrics, stack: AsyncExitStack) -> Hub:
    client = await stack.enter_async_context(http_client(settings.extra_ca_file))
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return HubClient(
        settings.hf_endpoint,
        token,
        client,
        sleep,
        stall_timeout_s=settings.stall_timeout_s,
        fetched=metrics.fetched_bytes.inc,
    )


async def _usage(settings: RegistrySettings, stack: AsyncExitStack) -> Usage:
    if settings.service_registry_url is None:
        return NobodyAsked()
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))
    return ServiceRegistryUsage(settings.service_registry_url, client)


def _other_s3(settings: RegistrySettings) -> OtherS3 | None:
    if settings.import_s3_endpoint is None:
        return None
    secret = settings.import_s3_secret_key
    return OtherS3(
        parse_endpoint(settings.import_s3_endpoint),
        access_key=settings.import_s3_access_key,
        secret_key=secret.get_secret_value() if secret else None,
        region=settings.import_s3_region,
    )

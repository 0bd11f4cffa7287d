"""What a server that is none of our workers is asked with: its own name for the model, and its own key."""

from collections.abc import Mapping

from msp_common.contracts.workers import Worker
from msp_gateway.upstream import RawHeaders


def name_there(worker: Worker) -> str:
    """What the model is called where it is served."""
    return worker.external.served_as if worker.external is not None else worker.lease.model.id


def with_key(worker: Worker, headers: RawHeaders, environ: Mapping[str, str]) -> RawHeaders:
    """The fields with the server's key, where it wants one and the environment has it."""
    key = environ.get(worker.external.api_key_env or "") if worker.external is not None else None
    return [*headers, (b"authorization", f"Bearer {key}".encode())] if key else headers

"""The way of a relayed request: authenticate, head, admit, resolve, pick, relay, account.

Each step is a function or an object of its own; this module only puts them in their order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from msp_common.contracts.workers import Worker
from msp_common.error_response import error_response
from msp_common.errors import ApiError
from msp_common.logs import REQUEST_ID
from msp_common.request_ids import HEADER, request_id_for
from msp_gateway.accounting import Accounts, Record
from msp_gateway.admission import Admission, Authenticator
from msp_gateway.body import ClientLeft
from msp_gateway.client_watch import until_client_leaves
from msp_gateway.failures import FailedTry, Happened
from msp_gateway.head import ClientRequest, Head, read_json
from msp_gateway.headers import for_worker
from msp_gateway.multipart import read_form
from msp_gateway.paths import RelayPath
from msp_gateway.pick import pick
from msp_gateway.relay import Call, Relay
from msp_gateway.replicas import Replicas
from msp_gateway.resolve import Catalogue, resolve, serving


@dataclass(frozen=True)
class Pipeline:
    """Serves the relayed paths."""

    authenticator: Authenticator
    admission: Admission
    catalogue: Callable[[], Catalogue]
    replicas: Replicas
    relay: Relay
    accounts: Accounts
    max_body_bytes: int
    turns: Iterator[int]
    """Where the next pick begins among equals."""

    async def serve(self, path: RelayPath, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request for this path."""
        headers = Headers(scope=scope)
        request_id = request_id_for(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        token = REQUEST_ID.set(request_id)
        record = self.accounts.open(request_id, path.path)
        try:
            await self._answer(path, headers, receive, send, record)
        except ClientLeft:
            if record.worker and record.model:
                record.failed.append(FailedTry(Happened.CLIENT_LEFT, record.worker, record.model))
        except ApiError as error:
            record.status = error.status
            response = error_response(error)
            response.headers[HEADER] = request_id
            await response(scope, receive, send)
            record.complete = True
        except Exception:
            record.status = record.status or 500
            raise
        finally:
            self.accounts.close(record)
            REQUEST_ID.reset(token)

    async def _answer(
        self, path: RelayPath, headers: Headers, receive: Receive, send: Send, record: Record
    ) -> None:
        identity = self.authenticator.authenticate(headers)
        record.identity = identity.name
        read = read_form if path.multipart else read_json
        request: ClientRequest = await read(receive, headers, self.max_body_bytes)
        try:
            record.requested_model, record.stream = request.head.model, request.head.stream
            call = Call(path.path, for_worker(headers.raw, record.request_id), request)
            async with until_client_leaves(receive), self.admission.admit(identity, request.head):
                candidates = self._candidates(path, request.head)
                whole = await self.relay.run(call, candidates, record, send)
        finally:
            request.close()
        if whole:
            record.complete = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # Otherwise the server aborts the connection of an answer that never ended: what is wanted.

    def _candidates(self, path: RelayPath, head: Head) -> Sequence[Worker]:
        """Whom to ask, in order: the replicas of the model, then those of models that stand in for it."""
        catalogue = self.catalogue()
        cooling, turn = self.replicas.cooling(), next(self.turns)
        return [
            worker
            for model_id in resolve(head.model, path, catalogue)
            for worker in pick(
                serving(catalogue.replicas(model_id), path), self.replicas.in_flight, cooling, turn
            )
        ]

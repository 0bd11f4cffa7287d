"""The way of a relayed request: authenticate, head, admit, resolve, pick, relay, account.

Each step is a function or an object of its own; this module only puts them in their order.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import ApiError, Unavailable
from msp_common.logs import REQUEST_ID
from msp_common.request_ids import HEADER, request_id_for
from msp_gateway.accounting import Accounts
from msp_gateway.admission import (
    Admission,
    Ask,
    Authenticator,
    Identity,
    Outgoing,
    allowed,
    wants_events,
)
from msp_gateway.body import ClientLeft
from msp_gateway.catalogue import Catalogue
from msp_gateway.client_watch import Clients
from msp_gateway.conversations import conversation_of
from msp_gateway.failures import FailedTry, Happened
from msp_gateway.head import ClientRequest, Head, read_json
from msp_gateway.headers import for_worker, value_of
from msp_gateway.multipart import read_form
from msp_gateway.paths import RelayPath
from msp_gateway.pick import pick
from msp_gateway.record import Record
from msp_gateway.relay import Call, Candidate, Relay
from msp_gateway.replicas import Replicas
from msp_gateway.resolve import Choice, Resolver
from msp_gateway.tracing.traces import Trace, Tracing


@dataclass(frozen=True)
class Pipeline:
    """Serves the relayed paths."""

    authenticator: Authenticator
    admission: Admission
    catalogue: Callable[[], Catalogue]
    replicas: Replicas
    relay: Relay
    accounts: Accounts
    tracing: Tracing
    max_body_bytes: int
    turns: Iterator[int]
    """Where the next pick begins among equals."""
    clients: Clients = field(default_factory=Clients)
    resolver: Resolver = field(default_factory=Resolver)

    async def serve(self, path: RelayPath, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request for this path."""
        headers = Headers(scope=scope)
        request_id = request_id_for(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        token = REQUEST_ID.set(request_id)
        record = self.accounts.open(request_id, path.path)
        trace = self.tracing.begin(headers)
        out = Outgoing(send, request_id)
        try:
            await self._answer(path, headers, receive, out, record, trace)
        except ClientLeft:
            if record.worker and record.model:
                record.failed.append(FailedTry(Happened.CLIENT_LEFT, record.worker, record.model))
        except ApiError as error:
            await _refuse(error, record, scope, receive, out)
        except asyncio.CancelledError:
            # Only the server cancels, when the grace time of its end is over.
            if record.status is not None:
                raise
            stopping = Unavailable("The gateway is being stopped; ask again.", retry_after_s=1)
            await _refuse(stopping, record, scope, receive, out)
        except Exception:
            record.status = record.status or 500
            raise
        finally:
            self.accounts.close(record)
            trace.end(record)
            REQUEST_ID.reset(token)

    async def _answer(
        self,
        path: RelayPath,
        headers: Headers,
        receive: Receive,
        out: Outgoing,
        record: Record,
        trace: Trace,
    ) -> None:
        identity = self.authenticator.authenticate(headers)
        record.identity = identity.name
        read = read_form if path.multipart else read_json
        request: ClientRequest = await read(receive, headers, self.max_body_bytes)
        self.accounts.read(record)
        try:
            record.requested_model, record.stream = request.head.model, request.head.stream
            fields = trace.fields(for_worker(headers.raw, record.request_id))
            call = Call(path.path, fields, request)
            choices = self._choices(path, request.head, identity)
            ask = self._ask(path, choices[0].model_id, identity, request.head, headers, record, out)
            with self.clients.until_leaving(receive), self.admission.admit(ask) as place:
                if waits := not place.granted:
                    await place.wait()
                out.fields, record.waited_s = place.fields, place.waited_s
                if waits:
                    # Chosen anew: much may have changed while the request waited.
                    choices = self._choices(path, request.head, identity)
                candidates = self._candidates(path, choices, conversation_of(headers))
                record.candidates = tuple(candidate.seen for candidate in candidates)
                last = await self.relay.run(call, candidates, record, out)
        finally:
            request.close()
        if last is not None:
            record.complete = True
            await out({"type": "http.response.body", "body": last, "more_body": False})
        # Otherwise the server aborts the connection of an answer that never ended: what is wanted.

    def _choices(self, path: RelayPath, head: Head, identity: Identity) -> Sequence[Choice]:
        """The models that may answer this key, the preferred one first."""
        choices = self.resolver.choices(head.model, path, self.catalogue())
        return allowed(identity, choices, named=head.model is not None)

    def _ask(
        self,
        path: RelayPath,
        model_id: str,
        identity: Identity,
        head: Head,
        headers: Headers,
        record: Record,
        out: Outgoing,
    ) -> Ask:
        length = value_of(headers.raw, b"content-length") or b""
        return Ask(
            identity=identity,
            head=head,
            request_id=record.request_id,
            model_id=model_id,
            replicas=self.resolver.serving(model_id, path, self.catalogue()),
            # What a recording has of bytes says nothing of tokens.
            body_bytes=int(length) if length.isdigit() and not path.multipart else 0,
            progress=record,
            tell_waiting=out.tell_waiting if head.stream and wants_events(headers) else None,
        )

    def _candidates(
        self, path: RelayPath, choices: Sequence[Choice], conversation: str | None
    ) -> Sequence[Candidate]:
        """Whom to ask, in order: the replicas of the model, then those of models that stand in for it.

        By what is known now: the request may have waited.
        """
        catalogue = self.catalogue()
        self.replicas.observe(catalogue.workers)
        turn, candidates = next(self.turns), []
        for choice in choices:
            workers = self.resolver.serving(choice.model_id, path, catalogue)
            if len(workers) > 1:
                workers = pick(workers, self.replicas.seen(), turn, conversation)
            candidates += [Candidate(worker, choice.stands_in_for) for worker in workers]
        return candidates


async def _refuse(error: ApiError, record: Record, scope: Scope, receive: Receive, send: Send) -> None:
    record.status, record.error = error.status, error.code or error.type
    response = error_response(error)
    response.headers[HEADER] = record.request_id
    await response(scope, receive, send)
    record.complete = True

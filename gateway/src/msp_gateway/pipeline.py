"""The way of a relayed request: authenticate, head, admit, resolve, pick, relay, account.

Each step is a function or an object of its own; this module only puts them in their order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import ApiError, Unavailable
from msp_common.logs import REQUEST_ID
from msp_common.request_ids import HEADER, request_id_for
from msp_gateway.accounting import Accounts
from msp_gateway.admission import (
    ANONYMOUS,
    Admission,
    Ask,
    Authenticator,
    Identity,
    Outgoing,
    Place,
    TellWaiting,
    allowed,
    wants_events,
)
from msp_gateway.body import ClientLeft
from msp_gateway.calls import Call, Candidate
from msp_gateway.catalogue import Catalogue
from msp_gateway.client_watch import Clients
from msp_gateway.conversations import conversation_of
from msp_gateway.failures import FailedTry, Happened
from msp_gateway.fields import Fields
from msp_gateway.head import ClientRequest, Head, read_json
from msp_gateway.headers import for_worker
from msp_gateway.multipart import read_form
from msp_gateway.passing import Passed
from msp_gateway.paths import RelayPath
from msp_gateway.pick import pick
from msp_gateway.record import Record
from msp_gateway.relay import Relay
from msp_gateway.replicas import Replicas
from msp_gateway.resolve import Option, Resolver
from msp_gateway.tracing.traces import Trace, Tracing
from msp_gateway.upstream import SentRequest


@dataclass(slots=True, eq=False)
class Passage:
    """One request on its way."""

    path: RelayPath
    fields: Fields
    record: Record
    trace: Trace
    turn: int
    """Where the pick begins among equals."""
    identity: Identity = ANONYMOUS
    request: ClientRequest | None = None
    options: Sequence[Option] = ()
    """The models that may answer, the preferred one first."""


@dataclass(slots=True, eq=False)
class Begun:
    """What was done of a passage; `sent` has been sent to the first of the candidates."""

    call: Call
    candidates: Sequence[Candidate]
    sent: SentRequest | None = None


Work = Callable[[Passage, Receive, Outgoing], Awaitable[None]]


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
    """A number for each request."""
    clients: Clients = field(default_factory=Clients)
    resolver: Resolver = field(default_factory=Resolver)

    async def serve(self, path: RelayPath, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request for this path."""
        passage = self.open(path, scope, Fields(list(scope["headers"])))
        await self.see_through(passage, self._whole_way, scope, receive, send)

    def open(self, path: RelayPath, scope: Scope, fields: Fields) -> Passage:
        """A request has arrived. Whoever opens a passage sees it through, or closes it."""
        request_id = request_id_for(fields)
        scope.setdefault("state", {})["request_id"] = request_id
        trace = self.tracing.begin(fields)
        # Last: what is opened must be closed.
        record = self.accounts.open(request_id, path.path)
        return Passage(path, fields, record, trace, next(self.turns))

    def close(self, passage: Passage) -> None:
        """The request has ended, in whatever way."""
        self.accounts.close(passage.record)
        passage.trace.end(passage.record)

    async def see_through(
        self, passage: Passage, work: Work, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Do the work that is left of it, tell the client what goes wrong, and close it."""
        record = passage.record
        token = REQUEST_ID.set(record.request_id)
        out = Outgoing(send, record.request_id)
        try:
            await work(passage, receive, out)
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
            self.close(passage)
            REQUEST_ID.reset(token)

    def authenticate(self, passage: Passage) -> None:
        """Raises Unauthenticated."""
        authorization = passage.fields.get(b"authorization", b"")
        passage.identity = self.authenticator.authenticate(authorization.decode("latin-1"))
        passage.record.identity = passage.identity.name

    def admit(
        self, passage: Passage, request: ClientRequest, tell_waiting: TellWaiting | None = None
    ) -> Place:
        """A place for the request, which is there whole now. Raises ApiError."""
        record, head = passage.record, request.head
        self.accounts.read(record)
        passage.request = request
        record.requested_model, record.stream = head.model, head.stream
        passage.options = self._options(passage, head)
        preferred = passage.options[0]
        ask = Ask(
            passage.identity,
            head,
            record.request_id,
            preferred.model_id,
            preferred.workers,
            request.text_bytes,
            record,
            tell_waiting,
        )
        return self.admission.admit(ask)

    def call(self, passage: Passage) -> Call:
        """The request as it goes to workers."""
        fields = passage.trace.fields(for_worker(passage.fields, passage.record.request_id))
        return Call(passage.path.path, fields, _request_of(passage))

    def candidates(self, passage: Passage) -> Sequence[Candidate]:
        """Whom to ask, in order: the replicas of the model, then those of models that stand in for it."""
        candidates: list[Candidate] = []
        for option in passage.options:
            known = option.candidates
            if len(known) > 1:
                conversation = conversation_of(passage.fields)
                picked = pick(option.workers, self.replicas.seen(), passage.turn, conversation)
                candidates += [known[worker.id] for worker in picked]
            else:
                candidates += known.values()
        passage.record.candidates = tuple([candidate.seen for candidate in candidates])
        return candidates

    async def go_on(
        self, passage: Passage, place: Place, receive: Receive, out: Outgoing, begun: Begun | None = None
    ) -> None:
        """From admission to the end; `begun` is what was done of it without waiting."""
        request, record = _request_of(passage), passage.record
        try:
            with self.clients.until_leaving(receive), place:
                if waits := not place.granted:
                    await place.wait()
                out.fields, record.waited_s = place.fields, place.waited_s
                if begun is None:
                    if waits:
                        # Chosen anew: much may have changed while the request waited.
                        passage.options = self._options(passage, request.head)
                    begun = Begun(self.call(passage), self.candidates(passage))
                last = await self.relay.run(begun.call, begun.candidates, record, out, begun.sent)
        finally:
            request.close()
        await _end(record, last, out)

    async def go_on_broken(
        self, passage: Passage, place: Place, call: Call, passed: Passed, receive: Receive, out: Outgoing
    ) -> None:
        """From the break of an answer to the end."""
        with self.clients.until_leaving(receive), place:
            done = passed.whole or await self.relay.after_break(call, passed, passage.record, out)
        await _end(passage.record, passed.last if done else None, out)

    async def _whole_way(self, passage: Passage, receive: Receive, out: Outgoing) -> None:
        self.authenticate(passage)
        read = read_form if passage.path.multipart else read_json
        request: ClientRequest = await read(receive, passage.fields, self.max_body_bytes)
        try:
            tells = request.head.stream and wants_events(passage.fields)
            place = self.admit(passage, request, out.tell_waiting if tells else None)
        except BaseException:
            request.close()
            raise
        await self.go_on(passage, place, receive, out)

    def _options(self, passage: Passage, head: Head) -> Sequence[Option]:
        """The models that may answer this key, the preferred one first, by what is known now."""
        catalogue = self.catalogue()
        self.replicas.observe(catalogue.workers)
        options = self.resolver.options(head.model, passage.path, catalogue)
        return allowed(passage.identity, options, head.model is not None)


def _request_of(passage: Passage) -> ClientRequest:
    assert passage.request is not None  # noqa: S101
    return passage.request


async def _end(record: Record, last: bytes | None, out: Outgoing) -> None:
    """`last` is as of `Relay.run`; without it the server aborts the connection, as it should."""
    if last is not None:
        record.complete = True
        await out({"type": "http.response.body", "body": last, "more_body": False})


async def _refuse(error: ApiError, record: Record, scope: Scope, receive: Receive, send: Send) -> None:
    record.status, record.error = error.status, error.code or error.type
    response = error_response(error)
    response.headers[HEADER] = record.request_id
    await response(scope, receive, send)
    record.complete = True

"""Every row of the conformance tables is true of a worker that says it, and no field is missing."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.chat.wire import ChatRequest, CompletionRequest
from msp_model_service.conformance.fields import Field, Needs, Standing
from msp_model_service.conformance.tables import TABLES
from msp_model_service.responses.wire import ResponsesRequest
from msp_model_service.routes.embeddings import EmbeddingsRequest
from support import conformance_workers as workers
from support.conformance_cases import CASES, LEAST, Case
from support.conformance_workers import Served

REPOSITORY = Path(__file__).resolve().parents[2]
ServedAs = Callable[[str], Served]
CHATS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
SPEECH = ("/v1/audio/transcriptions", "/v1/audio/translations")
KINDS: Mapping[str, tuple[str, ...]] = {
    "chat": CHATS,
    "plain_chat": CHATS,
    "plain_formless_chat": (CHATS[0], CHATS[2]),
    "embedding": ("/v1/embeddings",),
    "matryoshka": ("/v1/embeddings",),
    "transcription": SPEECH,
}
ALL = [(kind, path, field) for kind, paths in KINDS.items() for path in paths for field in TABLES[path]]


def named(rows: Iterable[tuple[str, str, Field]]) -> list[Any]:
    return [pytest.param(*row, id=f"{row[0]} {row[1]} {row[2].name} {row[2].value}".strip()) for row in rows]


def case_of(path: str, field: Field) -> Case:
    return CASES[path][field.name, field.value]


ROWS = named(ALL)
FULL = [row for row in ALL if "plain" not in row[0]]
WRONG = named(row for row in FULL if case_of(*row[1:]).wrong)
BOUNDED = [
    pytest.param(kind, path, field, id=f"{path} {field.name}")
    for kind, path in (*(("chat", path) for path in CHATS), ("transcription", SPEECH[0]))
    for field in TABLES[path]
    if field.minimum is not None or field.maximum is not None
]
NOT_IN_A_BODY = {"extra_headers", "extra_query", "extra_body", "timeout"}


@pytest.fixture(scope="module")
def served_as(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedAs]:
    """Workers by their kind, each started once."""
    with ExitStack() as stack:
        running: dict[str, Served] = {}

        def served(kind: str) -> Served:
            if kind not in running:
                folder = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(workers.serving(folder, getattr(workers, kind)))
            return running[kind]

        yield served


def told(worker: Served, path: str, field: Field) -> dict[str, Any]:
    """What the worker's own card says of the row."""
    [entry] = [
        entry
        for entry in worker.card()["paths"][path]
        if (entry["field"], entry.get("value", "")) == (field.name, field.value)
    ]
    return dict(entry)


def root(field: Field) -> str:
    """What stands in a body's outermost object."""
    return re.split(r"[.\[]", field.name)[0]


@pytest.mark.parametrize(("kind", "path", "field"), ROWS)
def test_a_field_fares_as_the_worker_says(served_as: ServedAs, kind: str, path: str, field: Field) -> None:
    worker, case = served_as(kind), case_of(path, field)
    entry = told(worker, path, field)
    without = {**LEAST[path], **case.around}
    around = worker.send(path, without)
    done = worker.send(path, {**without, **case.sent})
    if entry["standing"] == "refused":
        assert (done.status, done.error["code"]) == (400, entry["code"])
        # What stands around it is perhaps what this engine refuses, and then what the error is about.
        assert done.error["param"].partition(".")[0] in {root(field), around.error.get("param")}
        return
    if around.status != 200:
        around, done = (worker.send(path, {**LEAST[path], **more}) for more in ({}, case.sent))
        assert (around.status, done.status) == (200, 200)
        return
    assert done.status == 200, done.error
    if entry["standing"] == "ignored":
        assert done.said == around.said
    elif case.shows:
        assert (done.answer, done.asked) != (around.answer, around.asked)


@pytest.mark.parametrize(("kind", "path", "field"), named(FULL))
def test_what_the_table_ignores_reaches_no_engine_and_what_it_honours_does(
    served_as: ServedAs, kind: str, path: str, field: Field
) -> None:
    """The fake engine ignores how words are chosen; here it is seen that it was told."""
    worker, case = served_as(kind), case_of(path, field)
    without = {**LEAST[path], **case.around}
    around = worker.send(path, without)
    done = worker.send(path, {**without, **case.sent})
    if field.standing is Standing.IGNORED:
        assert (done.answer, done.asked) == (around.answer, around.asked)
    elif case.shows and done.status == 200:
        assert (done.answer, done.asked) != (around.answer, around.asked)


@pytest.mark.parametrize(("kind", "path", "field"), WRONG)
def test_a_wrong_value_is_refused_by_its_fields_name(
    served_as: ServedAs, kind: str, path: str, field: Field
) -> None:
    worker, case = served_as(kind), case_of(path, field)
    wrong = worker.send(path, {**LEAST[path], **case.around, **(case.wrong or {})})
    assert wrong.status == (404 if field.name == "model" else 400)
    assert wrong.error["param"].partition(".")[0] == root(field)


@pytest.mark.parametrize(("kind", "path", "field"), BOUNDED)
def test_bounds_are_where_the_table_says(served_as: ServedAs, kind: str, path: str, field: Field) -> None:
    worker, case = served_as(kind), case_of(path, field)
    assert told(worker, path, field).get("minimum") == field.minimum
    assert told(worker, path, field).get("maximum") == field.maximum
    for bound, beyond in ((field.minimum, -1), (field.maximum, 1)):
        if bound is None:
            continue
        around = {**LEAST[path], **case.around}
        assert worker.send(path, {**around, field.name: bound}).status == 200
        outside = worker.send(path, {**around, field.name: bound + beyond})
        assert (outside.status, outside.error["param"], outside.error["code"]) == (
            400,
            field.name,
            "invalid_value",
        )


@pytest.mark.parametrize("path", [path for path in TABLES if path not in SPEECH])
def test_null_is_the_same_as_nothing(served_as: ServedAs, path: str) -> None:
    kind = next(kind for kind, paths in KINDS.items() if path in paths)
    worker = served_as(kind)
    names = {field.name for field in TABLES[path] if "." not in field.name} - set(LEAST[path])
    nothing = worker.send(path, LEAST[path])
    assert worker.send(path, {**LEAST[path], **dict.fromkeys(names)}) == nothing


@pytest.mark.parametrize("path", TABLES)
def test_a_field_that_no_row_names_is_ignored(served_as: ServedAs, path: str) -> None:
    worker = served_as(next(kind for kind, paths in KINDS.items() if path in paths))
    assert worker.card()["other_fields"] == "ignored"
    assert worker.send(path, {**LEAST[path], "never_heard_of": "x"}) == worker.send(path, LEAST[path])


def signatures() -> dict[str, set[str]]:
    """What the official client's methods take, by path."""
    with openai.OpenAI(api_key="none") as client:
        methods: dict[str, Callable[..., Any]] = {
            "/v1/chat/completions": client.chat.completions.create,
            "/v1/completions": client.completions.create,
            "/v1/embeddings": client.embeddings.create,
            "/v1/audio/transcriptions": client.audio.transcriptions.create,
            "/v1/audio/translations": client.audio.translations.create,
            "/v1/responses": client.responses.create,
        }
        return {path: {*inspect.signature(m).parameters} - NOT_IN_A_BODY for path, m in methods.items()}


@pytest.mark.parametrize("path", TABLES)
def test_the_table_has_every_field_of_the_official_client_and_marks_the_others(path: str) -> None:
    official = signatures()[path]
    whole = {field for field in TABLES[path] if "." not in field.name}
    assert official - {field.name for field in whole} == set()
    assert {field.name for field in whole if field.extension} == {f.name for f in whole} - official


def test_every_path_has_a_table_and_a_place_in_the_documentation() -> None:
    assert set(TABLES) == {path for type in ModelType for path in type.paths}
    page = (REPOSITORY / "docs/models.md").read_text()
    assert [path for path in TABLES if f"### `POST {path}`" not in page] == []


def test_the_official_client_reads_a_model_with_its_card(served_as: ServedAs) -> None:
    url = str(served_as("chat").http.base_url).rstrip("/")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        [listed] = client.models.list().data
        assert client.models.retrieve("org/model") == listed
    assert listed.model_extra is not None
    assert set(listed.model_extra["conformance"]["paths"]) == set(CHATS)
    assert None not in listed.model_extra.values()


@pytest.mark.parametrize("path", TABLES)
def test_every_row_is_proved_by_a_request(path: str) -> None:
    rows = [(field.name, field.value) for field in TABLES[path]]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(CASES[path])


@pytest.mark.parametrize(
    ("path", "model", "only_declared"),
    [
        (CHATS[0], ChatRequest, set()),
        (CHATS[1], CompletionRequest, set()),
        (CHATS[2], ResponsesRequest, {"store", "stream_options"}),
        ("/v1/embeddings", EmbeddingsRequest, set()),
    ],
)
def test_the_table_knows_every_field_that_is_read(path: str, model: Any, only_declared: set[str]) -> None:
    read = {field.alias or name for name, field in model.model_fields.items()}
    assert read - {field.name for field in TABLES[path]} == set()
    ignored = {f.name for f in TABLES[path] if f.standing is Standing.IGNORED and not f.value}
    assert ignored & read == only_declared


def test_all_needs_are_met_by_one_worker_and_missed_by_another(served_as: ServedAs) -> None:
    """So that neither side of a dependence goes unproved; the weights have a test of their own."""
    full, bare = served_as("chat"), served_as("plain_chat")
    wanted = {Needs.TOOLS, Needs.JSON_SCHEMA, Needs.IMAGES}
    honoured = [field for field in TABLES[CHATS[0]] if field.standing is Standing.HONOURED]
    rows = [field for field in honoured if field.needs and set(field.needs) <= wanted]
    assert wanted == {need for field in rows for need in field.needs}
    assert {told(full, CHATS[0], field)["standing"] for field in rows} == {"honoured"}
    assert {told(bare, CHATS[0], field)["standing"] for field in rows} == {"refused"}

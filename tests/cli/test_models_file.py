"""The file that declares models."""

from pathlib import Path

import pytest

from msp_cli import models_file
from msp_cli.models_file import ModelsFileError
from msp_common.contracts.jobs import DownloadRequest, ImportRequest

EXAMPLE = Path(__file__).resolve().parents[2] / "models.example.yaml"


def test_the_example_shows_every_key() -> None:
    models = models_file.load(EXAMPLE).models
    shown = {key for model in models for key in model.model_dump(by_alias=True, exclude_unset=True)}
    assert shown == {field.alias or name for name, field in models_file.DeclaredModel.model_fields.items()}


def test_an_entry_becomes_a_download_or_an_import(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(
        """
models:
  - {id: a/b, revision: v1, include: [x], exclude: [y], allow_pickle: true}
  - {id: a/c, import: "s3://bucket/prefix"}
  - {id: a/d}
"""
    )
    assert [model.request() for model in models_file.load(file).models] == [
        DownloadRequest(revision="v1", allow_patterns=["x"], ignore_patterns=["y"], allow_pickle=True),
        ImportRequest(source="s3://bucket/prefix"),
        DownloadRequest(),
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("models: [{id: a/b, revison: x}]", "models.0.revison: no such key"),
        ("model: [{id: a/b}]", "model: no such key"),
        ("models: []", "models: List should have at least 1 item"),
        ("- id: a/b", "the file: "),
        ("", "the file: "),
        ("models: [{revision: main}]", "models.0.id: Field required"),
        ("models: [{id: ../b}]", "models.0.id: '../b' is no model id"),
        ("models: [{id: a/b, revision: 1.10}]", "models.0.revision: 1.1 is a number; put it in quotes"),
        ("models: [{id: a/b, include: '*.json'}]", "models.0.include: Input should be a valid list"),
        ("models: [{id: a/b}, {id: a/b}]", "the file: a/b at main is declared twice"),
        ("models: [{id: a/b, id: a/c}]", "key 'id' is given twice"),
        ("models: [{id: a/b, import: /x, include: [y]}]", "an import takes all files"),
        ("models: [{id: a/b, import: ''}]", "models.0.import: String should have at least 1 character"),
        ("models: {", "is no YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, mistake: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(ModelsFileError) as refused:
        models_file.load(file)
    assert str(refused.value).startswith(str(file))
    assert mistake in str(refused.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("models: [{id: a/b, x: 1}, {id: a/c, y: 1}]")
    with pytest.raises(ModelsFileError) as refused:
        models_file.load(file)
    assert len(str(refused.value).splitlines()) == 2


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelsFileError, match=r"none\.yaml: cannot be read: No such file"):
        models_file.load(tmp_path / "none.yaml")
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelsFileError, match="is no UTF-8 text"):
        models_file.load(tmp_path / "m.yaml")

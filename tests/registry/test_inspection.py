"""What a snapshot's files say of the model, and which cannot be what they say they are."""

import json
import struct

import pytest

from msp_registry.failures import BadSnapshot
from msp_registry.inspection.inspection import Findings, inspect
from support.registry_files import CARD, safetensors, tiny_model


async def look(files: dict[str, bytes], sha256: dict[str, str] | None = None) -> Findings:
    async def read(path: str, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(files[path])
        return files[path][offset : offset + length]

    return await inspect([(path, len(data)) for path, data in files.items()], read, sha256)


def shard(*names: str) -> bytes:
    """A safetensors file of one BF16 number per name."""
    entries = {
        n: {"dtype": "BF16", "shape": [1], "data_offsets": [2 * i, 2 * i + 2]} for i, n in enumerate(names)
    }
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2 * len(names))


def sharded(weight_map: object, **changes: bytes) -> dict[str, bytes]:
    """A model of two files and an index."""
    return {
        "model-1.safetensors": shard("a", "b"),
        "model-2.safetensors": shard("c"),
        "model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode(),
        **changes,
    }


WHOLE = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(
    *, version: int = 3, dims: tuple[int, ...] = (256, 2), kind: int = 12, cut: int = 0, words: int = 3
) -> bytes:
    """A GGUF file of one Q4_K tensor, with a vocabulary before it."""
    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, words) + text("word") * words,
        text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, words) + bytes(4 * words),
        text("general.alignment") + struct.pack("<II", 4, 64),
        text("llama.rope") + struct.pack("<Id", 12, 1e4),
    ]
    tensor = text("blk.0.w") + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, 0)
    head = b"GGUF" + struct.pack("<IQQ", version, 1, len(keys)) + b"".join(keys) + tensor
    data = head + bytes(-len(head) % 64) + bytes(2 * 144)
    return data[: len(data) - cut]


async def test_a_whole_model_is_described() -> None:
    found = await look(
        tiny_model(100), {"LICENSE": "1" * 64, "sub/NOTICE.txt": "2" * 64, "config.json": "3" * 64}
    )
    assert (found.format, found.dtype, found.parameters) == ("safetensors", "F32", 100)
    assert found.licence.id == "apache-2.0"
    assert found.licence.text_sha256 == {"LICENSE": "1" * 64, "sub/NOTICE.txt": "2" * 64}
    assert not found.requires_remote_code


@pytest.mark.parametrize(
    ("path", "is_text"),
    [
        ("LICENSE", True),
        ("LICENCE.md", True),
        ("LICENSE-MODEL", True),
        ("license.txt", True),
        ("COPYING", True),
        ("NOTICE", True),
        ("licensed.py", False),
        ("notices_of_test.json", False),
    ],
)
async def test_licence_texts_are_known_by_their_names(path: str, is_text: bool) -> None:
    found = await look({path: b"text"}, {path: "1" * 64})
    assert bool(found.licence.text_sha256) is is_text


async def test_program_files_and_auto_map_need_remote_code() -> None:
    assert (await look({"modeling.py": b""})).requires_remote_code
    assert (await look({"config.json": b'{"auto_map": {}}'})).requires_remote_code


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("config.json", b"<html>", "config.json is not JSON"),
        ("config.json", b"[]", "config.json is no JSON object"),
        ("config.json", b"[" * 100_000, "config.json is not JSON"),
        ("config.json", b" " * ((16 << 20) + 1), "more than the 16777216"),
        ("tokenizer.json", b'{"model": ', "tokenizer.json is not JSON"),
        ("model.safetensors", b"", "has only 0 bytes"),
        ("model.safetensors", b"\n<!DOCTYPE html><html>...", "is a web page"),
        ("pytorch_model.bin", b"<html><head><title>Sign in", "is a web page"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("model.safetensors", b"\xff" * 100, "announce a header"),
        ("model.safetensors", safetensors(cut=1), "tensors need 16 bytes, the file has 15"),
        ("model.safetensors", safetensors() + b"x", "tensors need 16 bytes, the file has 17"),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0[]", "no JSON object"),
        ("model.safetensors", b'\x08\0\0\0\0\0\0\0{"a": 1}', "no valid dtype"),
        ("model.gguf", b"GGML" + bytes(100), "begins with b'GGML'"),
        ("model.gguf", gguf(version=9), "version is 9"),
        ("model.gguf", gguf(cut=1), r"tensors end at byte \d+, the file has \d+"),
        ("model.gguf", gguf()[:100], "header needs"),
        ("model.gguf", b"GGUF", "header needs 8 bytes"),
        ("model.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "announces 1152921504606846976 tensors"),
    ],
)
async def test_files_that_cannot_be_what_they_say_are_refused(path: str, data: bytes, reason: str) -> None:
    with pytest.raises(BadSnapshot, match=reason):
        await look({path: data})


async def test_a_header_with_gaps_or_impossible_shapes_is_refused() -> None:
    def one(entry: dict[str, object], tail: int = 8) -> dict[str, bytes]:
        header = json.dumps({"w": entry}).encode()
        return {"m.safetensors": struct.pack("<Q", len(header)) + header + bytes(tail)}

    for shape, offsets in (
        ([2], [4, 12]),
        ([2], [0, 7]),
        ([-2], [0, 8]),
        ([1] * 65, [0, 4]),
        ([1 << 64], [0, 8]),
    ):
        with pytest.raises(BadSnapshot, match=r"m\.safetensors is not a whole"):
            await look(one({"dtype": "F32", "shape": shape, "data_offsets": offsets}))


async def test_an_index_fits_its_files() -> None:
    assert (await look(sharded(WHOLE))).parameters == 3
    below = {f"sub/{path}": data for path, data in sharded(WHOLE).items()}
    assert (await look(below)).parameters == 3


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        (WHOLE | {"d": "model-3.safetensors"}, r"names 'model-3\.safetensors', which is not there \(1 of 3"),
        (WHOLE | {"d": "../model-1.safetensors"}, "which is not there"),
        (WHOLE | {"d": "model-1.safetensors"}, "tensor 'd' is in 'model-1.safetensors', which does not"),
        (WHOLE | {"c": "model-1.safetensors"}, "tensor 'c'"),
        ({"a": 1}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
async def test_an_index_of_other_files_is_refused(weight_map: object, reason: str) -> None:
    with pytest.raises(
        BadSnapshot, match=rf"model\.safetensors\.index\.json does not fit its files: .*{reason}"
    ):
        await look(sharded(weight_map))


async def test_an_index_without_any_of_its_weights_is_only_left_over() -> None:
    index = sharded(WHOLE)["model.safetensors.index.json"]
    found = await look({"model.safetensors.index.json": index, "README.md": CARD})
    assert (found.format, found.parameters) == ("other", None)


async def test_a_gguf_file_says_what_it_holds() -> None:
    found = await look({"model.Q4_K.gguf": gguf()})
    assert (found.format, found.dtype, found.parameters) == ("gguf", "Q4_K", 512)
    found = await look({"model.gguf": gguf(words=300_000)})
    assert found.parameters == 512


async def test_parts_of_one_gguf_model_add_up_but_several_forms_do_not() -> None:
    parts = {f"m-0000{n}-of-00002.gguf": gguf() for n in (1, 2)}
    assert (await look(parts)).parameters == 1024
    forms = {"m.Q4_K.gguf": gguf(), "m.Q8_0.gguf": gguf()}
    assert (await look(forms)).parameters is None

"""Images decoded from data URIs, and everything that is none."""

import io
import struct
import time
import zlib
from random import Random
from typing import Any

import pytest
from PIL import Image

from msp_common.errors import InvalidRequest
from msp_model_service.chat.images import ImageLimits, read_data_uri
from msp_model_service.chat.markdown_images import is_placeholder, lift
from support.chat_fakes import data_uri, image_bytes

WHERE = "messages.0.content.1.image_url"


def refusal(url: str, limits: ImageLimits = ImageLimits()) -> InvalidRequest:  # noqa: B008  (frozen)
    with pytest.raises(InvalidRequest) as caught:
        read_data_uri(url, limits, WHERE)
    assert caught.value.param == WHERE
    return caught.value


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_bytes_say_what_an_image_is_whatever_its_label(form: str) -> None:
    picture = read_data_uri(data_uri(image_bytes(form=form), "image/tiff"), ImageLimits(), WHERE)
    assert picture.image.size == (20, 10)
    assert picture.image.mode == "RGB"
    assert picture.media_type == f"image/{form.lower()}"


def test_transparent_pixels_become_white() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(file, "PNG")
    picture = read_data_uri(data_uri(file.getvalue()), ImageLimits(), WHERE)
    assert picture.image.getpixel((0, 0)) == (255, 255, 255)


def test_photographs_are_turned_as_their_camera_was() -> None:
    file = io.BytesIO()
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, "JPEG", exif=exif)
    assert read_data_uri(data_uri(file.getvalue()), ImageLimits(), WHERE).image.size == (10, 20)


def test_large_images_are_scaled_down() -> None:
    url = data_uri(image_bytes((300, 30)))
    assert read_data_uri(url, ImageLimits(longest_side=100), WHERE).image.size == (100, 10)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/a.png", "https://example.org/a.png", "file:///etc/passwd", "/etc/passwd", "a.png", ""],
)
def test_nothing_but_data_uris_is_taken(url: str) -> None:
    assert "data URI" in refusal(url).message


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,abc",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,AAA",
        "data:;base64,",
        data_uri(b"no image at all"),
        data_uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        data_uri(image_bytes(form="BMP")),
        data_uri(b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    ],
)
def test_what_cannot_be_decoded_is_refused(url: str) -> None:
    refusal(url)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_truncated_files_are_refused(form: str) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    file = io.BytesIO()
    noise.save(file, form)
    refusal(data_uri(file.getvalue()[: len(file.getvalue()) // 2]))


def png_chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def test_a_decompression_bomb_is_refused_by_its_announced_size() -> None:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(10_000))) + png_chunk(b"IEND", b"")
    bomb = b"\x89PNG\r\n\x1a\n" + head + pixels
    assert refusal(data_uri(bomb)).code == "image_too_large"


def test_limits_on_pixels_and_bytes_hold() -> None:
    url = data_uri(image_bytes((50, 50)))
    assert refusal(url, ImageLimits(pixels_each=2000)).code == "image_too_large"
    assert refusal(url, ImageLimits(bytes_each=20)).code == "image_too_large"


def test_markdown_images_are_lifted_with_the_slip_behind_them() -> None:
    words, urls = lift(f"What is this? ![]({data_uri()})}}) ![b]({data_uri()})")
    assert words == "What is this?"
    assert urls == [data_uri(), data_uri()]


@pytest.mark.parametrize("text", ["plain", "![a](https://x/y.png)", "[a](data:text/plain,b)"])
def test_other_markdown_is_left_alone(text: str) -> None:
    assert lift(text) == (text, [])


@pytest.mark.parametrize("text", ["![" * 200_000, "](data:image/" * 50_000, "![x](data:image/" * 50_000])
def test_hostile_markdown_is_read_in_linear_time(text: str) -> None:
    began = time.perf_counter()
    assert lift(text + "](data:image/") == (text + "](data:image/", [])
    assert time.perf_counter() - began < 5  # quadratic: hours


def test_the_placeholder_is_a_small_white_square_only() -> None:
    def picture(size: tuple[int, int], color: str) -> bool:
        url = data_uri(image_bytes(size, color, "JPEG"))
        return is_placeholder(read_data_uri(url, ImageLimits(), WHERE))

    assert picture((16, 16), "white")
    assert not picture((16, 16), "red")
    assert not picture((32, 16), "white")


def webp_of_announced_size(side: int) -> bytes:
    """A moving WebP of 8 x 8 pixels whose head claims a canvas of `side` by `side`."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=10)
    data = bytearray(file.getvalue())
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = struct.pack("<I", side - 1)[:3] * 2
    return bytes(data)


def gif_of_announced_size(side: int) -> bytes:
    data = bytearray(image_bytes((8, 8), form="GIF"))
    data[6:10] = struct.pack("<HH", side, side)
    at = data.index(b",") + 5
    data[at : at + 4] = struct.pack("<HH", side, side)
    return bytes(data)


def jpeg_of_announced_size(side: int) -> bytes:
    data = bytearray(image_bytes((8, 8), form="JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("bomb", [webp_of_announced_size, gif_of_announced_size, jpeg_of_announced_size])
@pytest.mark.parametrize("side", [7000, 16_000])
def test_bombs_of_every_format_are_refused_by_their_announced_size(bomb: Any, side: int) -> None:
    assert refusal(data_uri(bomb(side))).code == "image_too_large"


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
def test_a_bomb_in_a_files_notes_is_refused(name: bytes) -> None:
    notes = png_chunk(name, b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0\0\0\0")) + png_chunk(b"IEND", b"")
    assert refusal(data_uri(b"\x89PNG\r\n\x1a\n" + head + notes + pixels)).code == "invalid_image"


def test_only_the_first_frame_of_a_moving_picture_is_read() -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")] * 50
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    read = read_data_uri(data_uri(file.getvalue()), ImageLimits(), WHERE)
    pixel = read.image.getpixel((4, 4))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 200 > pixel[2]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_files_are_read_or_refused_and_nothing_else(form: str) -> None:
    whole = image_bytes((40, 30), form=form)
    random = Random(form)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(random.randint(1, 8)):
            data[random.randrange(len(data))] = random.randrange(256)
        try:
            read_data_uri(data_uri(bytes(data[: random.randint(1, len(data))])), ImageLimits(), WHERE)
        except InvalidRequest as error:
            assert error.param == WHERE  # noqa: PT017

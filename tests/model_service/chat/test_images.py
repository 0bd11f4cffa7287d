"""Images decoded from data URIs, and everything that is none."""

import io
import struct
import time
import zlib

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


def test_a_decompression_bomb_is_refused_by_its_announced_size() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
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

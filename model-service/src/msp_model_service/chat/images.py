"""Images in requests: data URIs only, decoded here and within limits. Nothing is ever opened or fetched."""

import base64
import binascii
import io
import re
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from msp_common.errors import InvalidRequest
from msp_model_service.chat.conversation import Picture

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
"""The formats that OpenAI takes, by Pillow's names. Other decoders are never tried on clients' bytes."""

_DATA_URI = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)


@dataclass(frozen=True)
class ImageLimits:
    """How much image one request may bring."""

    count: int = 16
    bytes_each: int = 20 * 2**20
    pixels_each: int = 40_000_000
    pixels_all: int = 64_000_000
    """Of all images of a request together, as they are kept: three bytes each."""
    longest_side: int = 4096
    """Larger images are scaled down to it: no vision model reads more, and memory stays bounded."""


def read_data_uri(url: str, limits: ImageLimits, param: str) -> Picture:
    """The image in a data URI, whatever its label claims to be. Raises InvalidRequest naming `param`."""
    head = _DATA_URI.match(url)
    if head is None:
        raise InvalidRequest(
            "An image must be sent as a data URI (data:image/png;base64,...); this service opens "
            "no addresses and no files.",
            param=param,
            code="invalid_image_url",
        )
    if not head[1].lower().endswith(";base64"):
        raise InvalidRequest("The image's data URI is not base64.", param=param, code="invalid_base64")
    if (len(url) - head.end()) * 3 // 4 > limits.bytes_each + 2:
        raise InvalidRequest(
            f"The image is larger than {limits.bytes_each} bytes.", param=param, code="image_too_large"
        )
    try:
        data = base64.b64decode("".join(url[head.end() :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(
            f"The image's base64 cannot be decoded: {error}.", param=param, code="invalid_base64"
        ) from error
    return decode(data, limits, param)


def decode(data: bytes, limits: ImageLimits, param: str) -> Picture:
    """The first frame of an image file as RGB, turned the way its camera was held, on white."""
    try:
        with Image.open(io.BytesIO(data), formats=tuple(MEDIA_TYPES)) as file:
            width, height = file.size
            if width * height > limits.pixels_each:
                raise InvalidRequest(
                    f"The image has {width} x {height} pixels; at most {limits.pixels_each} are allowed.",
                    param=param,
                    code="image_too_large",
                )
            media_type = MEDIA_TYPES[str(file.format)]
            file.load()
            return Picture(_as_rgb(file, limits.longest_side), data, media_type)
    except UnidentifiedImageError as error:
        raise InvalidRequest(
            f"The data is no image of a known format ({', '.join(MEDIA_TYPES)}).",
            param=param,
            code="invalid_image",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise InvalidRequest("The image has too many pixels.", param=param, code="image_too_large") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError) as error:
        raise InvalidRequest(
            f"The image is damaged and cannot be decoded: {error}.", param=param, code="invalid_image"
        ) from error


def _as_rgb(file: Image.Image, longest_side: int) -> Image.Image:
    file.thumbnail((longest_side, longest_side))
    image: Image.Image = ImageOps.exif_transpose(file)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")

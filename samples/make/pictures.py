"""What the vision sample learns from: pictures of one coloured shape on a plain background."""

from __future__ import annotations

import colorsys
import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "cross")

# Hue in degrees, saturation and value: the ranges that a name stands for. Between two names is left out.
COLOURS = {
    "red": ((-8, 8), (0.75, 1.0), (0.65, 1.0)),
    "orange": ((24, 39), (0.85, 1.0), (0.9, 1.0)),
    "yellow": ((51, 62), (0.75, 1.0), (0.85, 1.0)),
    "green": ((95, 150), (0.6, 1.0), (0.4, 1.0)),
    "blue": ((205, 245), (0.65, 1.0), (0.5, 1.0)),
    "purple": ((268, 300), (0.5, 1.0), (0.45, 0.9)),
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.1)),
    "white": ((0, 360), (0.0, 0.04), (0.95, 1.0)),
}
_LEAST_CONTRAST = 110.0  # distance in RGB between shape and background

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """A picture, the colour and shape in it (None when it is empty), and a mask: 255 where the shape is."""

    image: Image.Image
    colour: str | None
    shape: str | None
    mask: Image.Image


def some_picture(rng: np.random.Generator) -> Picture:
    """Any colour, shape, place, size, tilt, canvas and background; one in 25 has no shape."""
    height = int(rng.integers(48, 161))
    width = height if rng.random() < 0.6 else int(height * rng.uniform(0.7, 1.4))
    if rng.random() < 0.04:
        empty = Image.new("RGB", (width, height), _background(rng))
        return Picture(_as_taken(empty, rng), None, None, Image.new("L", (width, height)))
    colour, shape = str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))
    paint = _paint(colour, rng)
    ground = _background(rng)
    while math.dist(paint, ground) < _LEAST_CONTRAST:
        ground = _background(rng)
    image = Image.new("RGB", (width, height), ground)
    short = min(width, height)
    radius = short * rng.uniform(0.18, 0.46)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    mask = Image.new("L", image.size)
    turn, thickness = _tilt(rng), rng.uniform(0.28, 0.42)
    draw_shape(ImageDraw.Draw(image), shape, (x, y), radius, paint, turn, thickness)
    draw_shape(ImageDraw.Draw(mask), shape, (x, y), radius, 255, turn, thickness)
    return Picture(_as_taken(image, rng), colour, shape, mask)


def draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    paint: Rgb | int,
    turn: float = 0.0,
    thickness: float = 0.36,
) -> None:
    """`radius` is that of the circle around the shape, `turn` in radians; `thickness`, a share of the radius,
    is half the width of a cross's arms and is near the inner radius of a star."""
    x, y = centre
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint)
        return
    points: list[tuple[float, float]]  # distance from the centre in radii, angle
    if shape == "square":
        points = [(1.0, math.pi / 4 + corner * math.pi / 2) for corner in range(4)]
    elif shape == "triangle":
        points = [(1.0, corner * math.tau / 3) for corner in range(3)]
    elif shape == "star":
        points = [
            (1.0 if corner % 2 == 0 else 0.08 + thickness, corner * math.pi / 5) for corner in range(10)
        ]
    elif shape == "cross":
        tip, bend = math.hypot(1.0, thickness), math.hypot(thickness, thickness)
        half = math.atan2(thickness, 1.0)
        points = [
            point
            for arm in range(4)
            for point in (
                (tip, arm * math.pi / 2 - half),
                (tip, arm * math.pi / 2 + half),
                (bend, arm * math.pi / 2 + math.pi / 4),
            )
        ]
    else:
        raise ValueError(f"no such shape: {shape!r}; known are {', '.join(SHAPES)}")
    up = -math.pi / 2 + turn
    corners = [
        (x + radius * far * math.cos(up + a), y + radius * far * math.sin(up + a)) for far, a in points
    ]
    draw.polygon(corners, fill=paint)


def _tilt(rng: np.random.Generator) -> float:
    """Upright or a little tilted: a square on its tip would be a diamond."""
    return 0.0 if rng.random() < 0.4 else float(rng.uniform(-0.25, 0.25))


def _paint(colour: str, rng: np.random.Generator) -> Rgb:
    if rng.random() < 0.35:
        pure = ImageColor.getrgb(colour)
        return pure[0], pure[1], pure[2]
    hue, saturation, value = (rng.uniform(low, high) for low, high in COLOURS[colour])
    return _rgb(hue, saturation, value)


def _background(rng: np.random.Generator) -> Rgb:
    draw = rng.random()
    if draw < 0.25:
        return 255, 255, 255
    if draw < 0.6:
        grey = int(rng.integers(0, 256))
        return grey, grey, grey
    if draw < 0.9:  # a tint, light or dark
        return _rgb(
            rng.uniform(0, 360),
            rng.uniform(0.05, 0.35),
            rng.choice((rng.uniform(0.8, 1), rng.uniform(0.1, 0.4))),
        )
    return _rgb(rng.uniform(0, 360), rng.uniform(0.4, 1), rng.uniform(0.4, 1))


def _rgb(hue: float, saturation: float, value: float) -> Rgb:
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _as_taken(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sometimes with noise, sometimes through JPEG."""
    if rng.random() < 0.2:
        pixels = np.asarray(image, np.float32)
        noisy = pixels + rng.normal(0, rng.uniform(2, 12), pixels.shape)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.25:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(40, 96)))
        image = Image.open(file)
        image.load()
    return image

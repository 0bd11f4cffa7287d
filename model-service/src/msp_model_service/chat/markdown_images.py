"""Images that Chat UI 0.8 hides in a message's text as markdown.

It appends `![](data:image/jpeg;base64,...)})` to the text (the last two characters are its slip), and gives
messages without an image a white placeholder of 16 x 16 pixels.
"""

import re

from msp_model_service.chat.conversation import Picture

_IMAGE_END = re.compile(r"\]\((data:image/[^()\s]*)\)(?:\}\))?", re.IGNORECASE)
_LONGEST_NAME = 200


def lift(text: str) -> tuple[str, list[str]]:
    """The text without its markdown images, and their data URIs in order. Linear in the text's length."""
    kept: list[str] = []
    urls: list[str] = []
    done = 0
    for end in _IMAGE_END.finditer(text):
        start = text.rfind("![", max(done, end.start() - _LONGEST_NAME), end.start())
        if start >= 0 and not set("]\n") & set(text[start + 2 : end.start()]):
            kept.append(text[done:start])
            urls.append(end[1])
            done = end.end()
    if not urls:
        return text, []
    return "".join([*kept, text[done:]]).strip(), urls


def is_placeholder(picture: Picture) -> bool:
    """Whether it is the white square that stands for no image."""
    if picture.image.size != (16, 16):
        return False
    extrema = picture.image.convert("L").getextrema()
    return extrema == (255, 255)

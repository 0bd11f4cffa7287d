"""Fields of the paths that embed and that write down speech."""

from msp_model_service.conformance.fields import (
    INVALID,
    Field,
    Needs,
    Standing,
    ignored,
    refused,
)

_OF_THE_SERVICE = "belongs to the service that OpenAI runs"
_WEIGHTS = (Needs.WEIGHTS,)
_MODEL = Field("model", why="its id or an alias, or empty; another name is 404 `model_not_found`")

EMBEDDINGS = (
    Field(
        "input", why="a text, texts, token ids of this model, or lists of them; what is too long is refused"
    ),
    _MODEL,
    Field("encoding_format", why="`float` (also when absent) or `base64`"),
    Field("dimensions", Standing.IGNORED, "makes no difference", value="the model's own length"),
    Field("dimensions", value="shorter", needs=(Needs.SHORTER_VECTORS,)),
    *ignored(_OF_THE_SERVICE, "user"),
    *ignored("of other servers; nothing is ever cut", "truncate", "truncate_prompt_tokens", extension=True),
    *ignored("of other servers; put the prompt before the text", "input_type", extension=True),
)

_FILE = Field("file", why="wav, mp3, m4a, webm, ogg, flac, mp4 ...; told by its bytes, not its name")
_PROMPT = Field("prompt", needs=_WEIGHTS)
_TEMPERATURE = Field("temperature", minimum=0, maximum=1, needs=_WEIGHTS)
_FORM = Field("response_format", value="`json`, `text`, `srt`, `vtt`, `verbose_json`")

TRANSCRIPTIONS = (
    _FILE,
    _MODEL,
    Field("language", why="a code or an English name; detected when absent"),
    _PROMPT,
    _TEMPERATURE,
    _FORM,
    refused("response_format", "speakers are not told apart", value="`diarized_json`", code=INVALID),
    Field("timestamp_granularities", why="`segment` and `word`; with `verbose_json`, else refused"),
    Field("stream", why="with `json` and `text`, else refused"),
    *ignored("log probabilities are not told", "include"),
    *ignored("recordings are cut where it is best for the model", "chunking_strategy"),
    *ignored("put them into `prompt`", "keywords"),
    *ignored("`language` names one", "languages"),
    *ignored("speakers are not told apart", "known_speaker_names", "known_speaker_references"),
)

TRANSLATIONS = (
    _FILE,
    _MODEL,
    Field("language", extension=True, why="that of the recording; detected when absent"),
    _PROMPT,
    _TEMPERATURE,
    _FORM,
    Field("timestamp_granularities", extension=True, why="as for transcriptions"),
    Field(
        "stream",
        Standing.REFUSED,
        "a translation is told whole",
        value="true",
        code=INVALID,
        extension=True,
    ),
)

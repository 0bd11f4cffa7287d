"""What one writes in ten minutes: `WhisperModel.transcribe` behind a FastAPI route.

Run as `python faster_whisper_server.py MODEL_FOLDER PORT PRECISION`, with faster-whisper's own environment.
"""

import sys
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Form, UploadFile
from faster_whisper import WhisperModel  # type: ignore[import-not-found]


def app(folder: str, precision: str) -> FastAPI:
    """The application. Its route is no coroutine, so FastAPI runs it in a pool of threads.

    The engine is asked for the same work as ours: greedily, once, without timestamps.
    """
    model = WhisperModel(folder, device="cpu", compute_type=precision, cpu_threads=1, local_files_only=True)
    served = FastAPI()

    @served.post("/v1/audio/transcriptions")
    def transcriptions(file: UploadFile, language: Annotated[str, Form()]) -> dict[str, Any]:
        segments, _ = model.transcribe(
            file.file,
            language=language,
            beam_size=1,
            temperature=[0.0],
            without_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=None,
        )
        return {"text": "".join(segment.text for segment in segments).strip()}

    return served


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[1], sys.argv[3]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")

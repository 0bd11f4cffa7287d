"""From a request to a sequence that the batch can take."""

from dataclasses import dataclass, replace
from typing import Any

from msp_common.errors import InvalidRequest
from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt
from msp_model_service.engines.chat_model import ChatModel
from msp_model_service.engines.prompt_scores import PromptScores
from msp_model_service.engines.slot.row_sampling import RowSampling
from msp_model_service.engines.slot.sequence import Images, Reader, Sequence
from msp_model_service.engines.slot.vision import PromptImages, image_keys
from msp_model_service.engines.token_events import TokenEvents


@dataclass(frozen=True)
class SlotInputs:
    """What a prepared prompt holds for this engine."""

    keys: list[int]
    images: Images | None = None


def prepared(loaded: ChatModel, prompt: PreparedPrompt) -> PreparedPrompt:
    """The prompt with SlotInputs in place of the processor's tensors. Blocking: pixels are hashed."""
    given: Any = prompt.inputs
    ids = list(prompt.token_ids)
    extra = {name: value for name, value in given.items() if name not in ("input_ids", "attention_mask")}
    if not extra:
        return replace(prompt, inputs=SlotInputs(ids))
    keys = image_keys(ids, extra, loaded.model.config)
    return replace(prompt, inputs=SlotInputs(keys, PromptImages(loaded, given)))


def sequence_for(
    loaded: ChatModel,
    request: GenerationRequest,
    reader: Reader,
    *,
    key: int,
    max_tokens: int,
    accepted_at: float = 0.0,
) -> Sequence:
    """A sequence to be put into the queue. Raises InvalidRequest for what no forward pass can take."""
    prompt = list(request.prompt.token_ids)
    param = "prompt" if request.prompt.continues else "messages"
    if not prompt:
        raise InvalidRequest("The prompt is empty.", param=param, code="invalid_value")
    if bad := next((i for i in prompt if not 0 <= i < loaded.vocabulary_size), None):
        # On a GPU an id out of range does not fail one request, it ends the process.
        raise InvalidRequest(
            f"Token id {bad} is not in this model's vocabulary of {loaded.vocabulary_size}.",
            param=param,
            code="invalid_value",
        )
    inputs = request.prompt.inputs
    given = inputs if isinstance(inputs, SlotInputs) else SlotInputs(prompt)
    return Sequence(
        key=key,
        prompt=prompt,
        prompt_keys=given.keys,
        sampling=RowSampling(
            request.sampling,
            loaded.defaults,
            prompt,
            vocabulary_size=loaded.vocabulary_size,
            device=loaded.device,
            top_logprobs=request.top_logprobs,
            grammar=request.grammar,
        ),
        events=TokenEvents(
            request,
            loaded.vocabulary,
            end_ids=loaded.end_ids,
            max_tokens=max_tokens,
            shown_ids=loaded.marker_ids(request.prompt.tool_format),
        ),
        reader=reader,
        accepted_at=accepted_at,
        max_tokens=max_tokens,
        images=given.images,
        begun=request.begun,
        scores=PromptScores(prompt, request.top_logprobs or 0, loaded.vocabulary)
        if request.score_prompt
        else None,
    )

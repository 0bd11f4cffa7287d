"""What every chat engine checks before it accepts a generation."""

from msp_common.errors import ContextTooLong, InvalidRequest
from msp_model_service.engines.chat import GenerationRequest

UNBOUNDED_ANSWER = 4096
"""Tokens for a request without a limit where the model's context has none either."""


def room_for(request: GenerationRequest, *, context_length: int | None, vocabulary_size: int) -> int:
    """How many tokens the answer may have, with those that were begun elsewhere.

    Raises ContextTooLong, or InvalidRequest for tokens that are not in the vocabulary.
    """
    for token_id in request.sampling.logit_bias:
        if not 0 <= token_id < vocabulary_size:
            raise InvalidRequest(
                f"Token id {token_id} is not in this model's vocabulary of {vocabulary_size}.",
                param="logit_bias",
                code="invalid_value",
            )
    if bad := next((i for i in request.begun if not 0 <= i < vocabulary_size), None):
        raise InvalidRequest(
            f"Token id {bad} is not in this model's vocabulary of {vocabulary_size}.",
            param="continue",
            code="invalid_value",
        )
    if context_length is None:
        return UNBOUNDED_ANSWER if request.max_tokens is None else request.max_tokens
    prompt = len(request.prompt.token_ids)
    left = context_length - prompt
    param = "prompt" if request.prompt.continues else "messages"
    if left < (0 if request.max_tokens == 0 else 1):
        raise ContextTooLong(
            f"This model's context is {context_length} tokens, and the prompt alone has {prompt}.",
            param=param,
        )
    if request.max_tokens is not None and request.max_tokens > left:
        raise ContextTooLong(
            f"This model's context is {context_length} tokens. You asked for {prompt + request.max_tokens}: "
            f"{prompt} in the prompt and {request.max_tokens} for the answer.",
            param=param,
        )
    return left if request.max_tokens is None else request.max_tokens

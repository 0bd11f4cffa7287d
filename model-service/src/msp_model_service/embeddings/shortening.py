"""`dimensions`: vectors cut to fewer numbers, for models whose first numbers say the most (Matryoshka)."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from msp_common.errors import InvalidRequest
from msp_model_service.engines.embedder import VectorForm


def size_for(asked: int | None, form: VectorForm) -> int:
    """The length that the vectors are to have. Raises InvalidRequest for one that the model has not."""
    if asked is None:
        return form.dimensions
    if asked in form.sizes:
        return asked
    raise InvalidRequest(
        f"'dimensions' is {asked}, but this model's vectors have {form.dimensions} numbers and "
        f"{_choice(form.sizes)}.",
        param="dimensions",
        code="invalid_value",
    )


def shortened(vectors: NDArray[np.float32], size: int, *, unit: bool) -> NDArray[np.float32]:
    """The first `size` numbers of each row, scaled to length 1 again where the whole ones are."""
    if vectors.shape[1] == size:
        return vectors
    cut = vectors[:, :size]
    if not unit:
        return cut
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = cut / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def _choice(sizes: Collection[int]) -> str:
    if len(sizes) == 1:
        return "cannot be shortened"
    if isinstance(sizes, range):
        return f"can be shortened to any size from {sizes[0]} to {sizes[-1]}"
    return f"can only be shortened to {', '.join(str(size) for size in sorted(sizes))}"

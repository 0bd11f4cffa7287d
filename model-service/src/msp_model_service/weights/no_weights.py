"""For an engine that has the model already: nothing is fetched."""

import threading
from pathlib import Path

from msp_model_service.weights.cache import Lock
from msp_model_service.weights.weights import OnProgress, Snapshot


class NoWeights:
    """See Weights. The commit is empty: nobody here knows what the other server loaded."""

    def fetch(self, model_id: str, revision: str, on_progress: OnProgress, stop: threading.Event) -> Snapshot:
        """A snapshot without files."""
        nowhere = Path("/nonexistent")
        return Snapshot(nowhere, "", Lock(nowhere / ".lock"))

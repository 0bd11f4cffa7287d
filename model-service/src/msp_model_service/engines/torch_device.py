"""Where tensors live and in which precision."""

import gc

import torch

from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions


def prepare(options: EngineOptions) -> tuple[torch.device, torch.dtype | str]:
    """Set threads and the memory limit; return the device and the dtype to load weights in.

    On a GPU the checkpoint's own dtype (`auto`); on a CPU float32, in which every processor is exact.
    Raises EngineLoadFailed when a GPU is demanded and none is seen.
    """
    torch.set_num_threads(options.threads)
    seen = torch.cuda.is_available()
    if options.device == "cuda" and not seen:
        raise EngineLoadFailed(
            "device is 'cuda', but torch sees no GPU; check the driver, the container toolkit and device_ids"
        )
    if options.device == "cpu" or not seen:
        return torch.device("cpu"), torch.float32
    torch.cuda.set_per_process_memory_fraction(options.gpu_memory_fraction)
    return torch.device("cuda"), "auto"


def release() -> None:
    """Give back what nobody holds any more, once an engine has dropped its weights."""
    # Modules and tracebacks refer to each other in circles, which only the collector finds.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

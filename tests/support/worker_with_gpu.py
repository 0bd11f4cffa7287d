"""`python -m support.worker_with_gpu`: a worker whose driver library tells of an invented, ailing GPU."""

import sys
from typing import Any, cast

from msp_model_service.__main__ import main
from support.worker_nvml import FakeGpu, FakeNvml

UUID = "GPU-1d8c7a52-0000-4000-8000-000000000001"
GIB = 1 << 30
XID_OFF_THE_BUS = 79
THERMAL = 0x20
"""`nvmlClocksEventReasonSwThermalSlowdown`."""


class Warm(FakeNvml):
    """A GPU that takes energy while it is looked at."""

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        gpu.energy_mj += gpu.power_mw
        return super().nvmlDeviceGetTotalEnergyConsumption(gpu)


if __name__ == "__main__":
    gpu = FakeGpu(
        UUID,
        used=90 * GIB,
        total=140 * GIB,
        temperature_c=91,
        slowed_by=THERMAL,
        ecc_errors=1,
        xids=[XID_OFF_THE_BUS],
    )
    sys.modules["pynvml"] = cast(Any, Warm(gpu))
    main()

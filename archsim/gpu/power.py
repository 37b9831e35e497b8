"""Power and energy of a GPU as the driver counts them (NVML): never one power sample."""

from __future__ import annotations

import os
import time
from typing import Any

MILLI = 1e-3


def bare_power(index: int, seconds: float) -> float | None:
    """Mean power in W of a GPU that no process uses; None if that, or which one, cannot be told.

    Only before this process has a CUDA context, so the GPU must be found without CUDA: it is the
    only one, or named in CUDA_VISIBLE_DEVICES by its UUID.
    """
    import pynvml

    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = [name.strip() for name in visible.split(",") if name.strip()]
        if index < len(names) and names[index].startswith("GPU-"):
            handle = pynvml.nvmlDeviceGetHandleByUUID(names[index])
        elif pynvml.nvmlDeviceGetCount() == 1:
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        else:
            return None
        if pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            return None
        return mean_power(handle, seconds)
    except pynvml.NVMLError:
        return None


def mean_power(handle: Any, seconds: float) -> float | None:
    """By the energy counter, over a time of doing nothing."""
    before, began = joules(handle), time.monotonic()
    time.sleep(seconds)
    after, ended = joules(handle), time.monotonic()
    return None if before is None or after is None else (after - before) / (ended - began)


def joules(handle: Any) -> float | None:
    """Energy since the driver was loaded, in J; None without a counter."""
    import pynvml

    try:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * MILLI
    except pynvml.NVMLError:  # before Volta, and Jetson
        return None

"""Which GPUs there are and which one is ours, found out without torch and without touching CUDA."""

import os

import pynvml

from medley.settings import Settings


def visible_gpus(settings: Settings) -> list[str]:
    """The GPUs that may be used, in CUDA_VISIBLE_DEVICES' own terms; none if MEDLEY_DEVICE is cpu."""
    if settings.device == "cpu":
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    try:
        pynvml.nvmlInit()
        return [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def take_gpu(settings: Settings, process_index: int) -> None:
    """Leave this process one GPU to see, before torch is imported; process 0 takes the first."""
    gpus = visible_gpus(settings)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[process_index % len(gpus)] if gpus else ""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it torch refuses --deterministic on a GPU

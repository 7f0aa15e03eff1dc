"""Whether this machine can paint: the GPU and its driver, torch, and the network's weights; torch is not imported."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from medley.records.weights import DEFAULT_WEIGHTS
from medley.settings import Settings
from medley.telling import shown
from medley_producer.doctor.findings import Finding
from medley_producer.extras import INSTALL_PAINTING, can_paint, workers_module
from medley_producer.weights import vgg_of

_INSTRUCTIONS = {"avx2": "AVX2", "avx512": "AVX-512"}

TORCH_WITHIN_S = 18.0
"""Less than all checks have together, so that no process is left behind; a warm import takes two seconds."""

_TRIAL = """
import json, torch
told = {"gpus": [], "why": ""}
try:
    torch.cuda.init()
    for index in range(torch.cuda.device_count()):
        (torch.zeros(1, device=f"cuda:{index}") + 1).item()
        told["gpus"].append(torch.cuda.get_device_name(index))
except Exception as error:
    told["why"] = str(error)
try:
    from medley_workers.numbers import winograd
    told["no_kernel"] = winograd.unavailable()
    told["kernel"] = None if told["no_kernel"] else winograd.instructions()
    told["bf16"] = winograd.has_bf16()
except Exception as error:
    told["no_kernel"] = f"It cannot be imported ({error})."
print(json.dumps(told))
"""
"""Adds two numbers on each GPU: a torch without kernels for it imports well, and sees it. Then it looks for the kernel
for CPUs, whose instructions only the program itself can tell."""


def torch(settings: Settings) -> Iterator[Finding]:
    """Whether torch imports, and computes on the GPUs that a worker would use; and if on none, what with instead."""
    if not can_paint():
        yield Finding("torch", "yellow", "not installed: this machine can submit, but not paint", INSTALL_PAINTING)
        return
    expected = workers_module("gpus").visible_gpus(settings)
    try:
        told = _try_torch()
    except subprocess.TimeoutExpired:
        found = f"{version('torch')} does not import within {TORCH_WITHIN_S:.0f} s"
        yield Finding("torch", "yellow", found, "Ask again: the first time, it is read from a cold disk.")
    except subprocess.CalledProcessError as error:
        found = f"{version('torch')} does not import: {(error.stderr.strip().splitlines() or ['it crashed'])[-1]}"
        yield Finding("torch", "red", found, "pip install --force-reinstall torch")
    else:
        yield _torch_finding(expected, told, settings)
        if not expected:
            yield _kernel_finding(told)


def _try_torch() -> dict[str, Any]:
    command = [sys.executable, "-c", _TRIAL]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TORCH_WITHIN_S)
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


def _torch_finding(expected: list[str], told: dict[str, Any], settings: Settings) -> Finding:
    gpus = told["gpus"]
    if len(gpus) < len(expected):
        found = (
            f"{version('torch')} computes on {len(gpus)} of {len(expected)} GPUs: {told['why'] or 'it sees no more'}"
        )
        remedy = "Install the torch that fits the driver and the GPU, or a newer driver."
        return Finding("torch", "red" if settings.device == "cuda" else "yellow", found, remedy)
    return Finding("torch", "green", f"{version('torch')}, computes on {', '.join(gpus) if expected else 'the CPU'}")


def _kernel_finding(told: dict[str, Any]) -> Finding:
    """Whether CPUs have medley's own convolutions; without them a painting takes longer."""
    why_not = told["no_kernel"]
    if why_not is None:
        bf16 = ", which also multiplies bfloat16" if told["bf16"] else ""
        return Finding("kernel", "green", f"convolutions of our own, with {_INSTRUCTIONS[told['kernel']]}{bf16}")
    found = f"torch's convolutions, slower than our own: {why_not.removesuffix('.')}"
    if platform.machine() not in ("x86_64", "AMD64"):
        return Finding("kernel", "green", found)
    return Finding(
        "kernel", "yellow", found, "Install gcc, then medley again, from its source: a clone or the .tar.gz."
    )


def gpus(settings: Settings) -> Iterator[Finding]:
    """Each GPU, its memory and its driver, as NVML tells them, and what is used where there is none."""
    if not can_paint():
        return
    import pynvml

    try:
        pynvml.nvmlInit()
        yield from _nvml_findings(pynvml)
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        pass
    except pynvml.NVMLError as error:
        yield Finding("GPU", "yellow", f"the driver says: {error}", "`nvidia-smi` says more; restart after an update.")
    yield from _use_finding(settings)


def _nvml_findings(pynvml: Any) -> Iterator[Finding]:
    driver = pynvml.nvmlSystemGetDriverVersion()
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        room = f"{memory.free / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
        yield Finding(f"GPU {index}", "green", f"{pynvml.nvmlDeviceGetName(handle)}, {room}, driver {driver}")


def _use_finding(settings: Settings) -> Iterator[Finding]:
    """What a worker would use, where that is not simply every GPU."""
    used = workers_module("gpus").visible_gpus(settings)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not used and settings.device == "cuda":
        remedy = "See `nvidia-smi`, or unset MEDLEY_DEVICE."
        yield Finding("GPU", "red", "none to be used, and MEDLEY_DEVICE is cuda", remedy)
    elif not used:
        why = "MEDLEY_DEVICE is cpu" if settings.device == "cpu" else "none"
        yield Finding("GPU", "green", f"{why}: paints on the CPU, {len(os.sched_getaffinity(0))} cores")
    elif chosen is not None:
        yield Finding("GPU", "green", f"CUDA_VISIBLE_DEVICES leaves {chosen}")


def weights(settings: Settings) -> Iterator[Finding]:
    """Whether MEDLEY_VGG names weights, and whether a machine that paints has its own."""
    weights, where = vgg_of(settings)
    if can_paint():
        find_weights = workers_module("network.weights").find_weights
        find_weights(DEFAULT_WEIGHTS)  # without them no worker starts, whatever is submitted
        where = where or find_weights(weights)
    if where:
        yield Finding("weights", "green", f"{weights.name}, SHA-256 {weights.sha256}, {shown(str(where))}")

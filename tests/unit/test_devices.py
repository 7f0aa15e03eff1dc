"""Which device paints, how cores are shared, and what counts as exhausted memory."""

import logging
from collections.abc import Iterator

import pytest
import torch

from medley.errors import OutOfMemory
from medley.settings import Settings
from medley_workers.devices import choose_device, out_of_memory
from medley_workers.gpus import take_gpu, visible_gpus


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("processes", "threads_each"), [(0, 4), (1, 4), (2, 2), (3, 1), (9, 1)])
def test_the_processes_of_a_worker_share_the_cores(processes: int, threads_each: int) -> None:
    assert choose_device(Settings(device="cpu", processes=processes)).type == "cpu"
    assert torch.get_num_threads() == threads_each


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert choose_device(Settings()).type == "cpu"
    assert "painting on the CPU" in caplog.text


def test_each_process_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for index in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-1f0c")
        assert visible_gpus(Settings()) == ["2", "GPU-1f0c"]
        take_gpu(Settings(), index)
        taken += visible_gpus(Settings())
    assert taken == ["2", "GPU-1f0c", "2"]


def test_a_worker_for_the_cpu_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert visible_gpus(Settings(device="cpu")) == []
    take_gpu(Settings(device="cpu"), 0)
    assert visible_gpus(Settings()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_exhausted_memory_has_one_name(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match="smaller size"), out_of_memory():
        raise error


def test_other_errors_keep_theirs() -> None:
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory():
        raise RuntimeError("shapes cannot be multiplied")

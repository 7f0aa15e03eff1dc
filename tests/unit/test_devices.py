"""Which device paints, how cores are shared, and what counts as exhausted memory."""

import logging
import sys
from collections.abc import Iterator

import psutil
import pytest
import torch

from medley.errors import OutOfMemory
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley_workers.gpus import take_gpu, visible_gpus
from medley_workers.numbers import devices
from medley_workers.numbers.devices import choose_device, free_bytes, out_of_memory, require_room


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


def test_a_picture_without_room_is_refused_with_a_size_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, options = torch.device("cpu"), StyleTransferOptions(num_steps=20)
    monkeypatch.setattr(devices, "free_memory", lambda: 2_000_000_000)
    require_room(cpu, (256, 192), [(256, 192)], options)
    with pytest.raises(OutOfMemory, match=r"^4096 x 3072 px needs about .* and 2\.0 GB are free; --size \d+ would fit"):
        require_room(cpu, (4096, 3072), [(4096, 3072)], options)


def test_where_free_memory_cannot_be_told_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_memory", lambda: None)
    require_room(torch.device("cpu"), (8192, 8192), [(8192, 8192)], StyleTransferOptions())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process has")
def test_memory_that_was_freed_is_given_back_before_it_is_counted() -> None:
    blocks = [torch.ones(25_000) for _ in range(4_000)]
    del blocks[:-1]  # the last one keeps the system from getting back what lies below it
    before = psutil.Process().memory_info().rss
    assert (free_bytes(torch.device("cpu")) or 0) > 0
    assert before - psutil.Process().memory_info().rss > 300_000_000

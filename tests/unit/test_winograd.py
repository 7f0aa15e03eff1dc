"""The convolution kernel in C: what it computes, beside torch in float64, and that it stays within its memory."""

import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from examining import findings_of
from medley.settings import Settings
from medley_producer.doctor import painting
from medley_workers.numbers import winograd
from medley_workers.numbers.winograd import Instructions, WinogradConvolution

SOURCE = Path(winograd.__file__).with_suffix(".c")

PAIRS = [(3, 64), (16, 48), (64, 64), (64, 128), (128, 256), (256, 512), (512, 512)]
"""(in, out): as in VGG-19, from pictures, of one width, of twice the width; and one that does not fill its panels."""

SIZES = [(1, 1, 1), (1, 1, 9), (2, 9, 1), (3, 2, 3), (1, 4, 4), (3, 5, 7), (1, 17, 31), (1, 64, 48)]
"""(N, H, W), of whole tiles of 4 x 4 and of parts of them, up to enough tiles for threads to have their own."""

MOST_MULTIPLICATIONS = 4e8
"""Larger pairs of these are left out: they take the reference long, and differ from smaller ones in nothing."""

CASES = [
    (c, k, *size)
    for (c, k), size in product(PAIRS, SIZES)
    if 9 * c * k * size[0] * size[1] * size[2] < MOST_MULTIPLICATIONS
]


class Kind(NamedTuple):
    """Instructions, whether factors are rounded to bfloat16, and how large errors may be."""

    instructions: Instructions
    bf16: bool
    bound: Callable[[int], float]
    """The relative error, root of the sum of squares, of a sum of products with so many channels."""


def float32_bound(channels: int) -> float:
    """Roundings of one sum after the other add up to about u sqrt(n), n being 9 times the channels, as they have any
    sign (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 2.8). A transform adds and takes away
    numbers larger than what comes of them, which makes it a few times as much: Lavin and Gray find 2 to 3 times.
    """
    return 4 * 2**-24 * math.sqrt(9 * channels)


def bf16_bound(channels: int) -> float:  # noqa: ARG001
    """Rounding a factor to 8 bits makes it wrong by 2^-9 at most, and the transforms make that a few times as much. Of
    noise, the worst that can be summed, the sums (in float32) are wrong by 1.3 %.
    """
    return 0.02


KINDS = {
    "avx2": Kind("avx2", False, float32_bound),
    "avx512": Kind("avx512", False, float32_bound),
    "avx512-bf16": Kind("avx512", True, bf16_bound),
}


@pytest.fixture(autouse=True)
def kernel() -> None:
    """The kernel, without which there is nothing to test; CI has it."""
    if why_not := winograd.unavailable():
        assert not os.environ.get("CI"), why_not
        pytest.skip(why_not)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind that this processor has."""
    kind = KINDS[request.param]
    if kind.instructions == "avx512" and winograd.instructions() != "avx512":
        pytest.skip("This processor has no AVX-512.")
    if kind.bf16 and not winograd.has_bf16():
        pytest.skip("This processor does not multiply bfloat16.")
    return kind


@pytest.fixture(params=[kind for kind in KINDS if "bf16" not in kind])
def exact_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in plain float32 that this processor has."""
    kind = KINDS[request.param]
    if kind.instructions == "avx512" and winograd.instructions() != "avx512":
        pytest.skip("This processor has no AVX-512.")
    return kind


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normal noise in channels_last, the same for the same shape and seed."""
    generator = torch.Generator().manual_seed(hash((shape, seed)) % 2**31)
    x = torch.randn(shape, generator=generator)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


@cache
def weights(c: int, k: int) -> tuple[Tensor, Tensor]:
    """Weights that keep numbers of the size that they have."""
    return noise(k, c, 3, 3).contiguous() / (9 * c) ** 0.5, noise(k)


@cache
def convolution(c: int, k: int, kind: Kind) -> WinogradConvolution:
    return WinogradConvolution(*weights(c, k), use=kind.instructions, bf16=kind.bf16)


@cache
def true_forward(c: int, k: int, n: int, h: int, w: int) -> Tensor:
    """The convolution of noise in float64, before ReLU."""
    weight, bias = weights(c, k)
    return F.conv2d(noise(n, c, h, w).double(), weight.double(), bias.double(), padding=1)


@cache
def true_backward(c: int, k: int, n: int, h: int, w: int) -> Tensor:
    """The gradient of noise in float64."""
    return F.conv_transpose2d(noise(n, k, h, w).double(), weights(c, k)[0].double(), padding=1)


def error(found: Tensor, true: Tensor) -> float:
    """Relative, over all; what comes out has the memory format that it should."""
    assert found.shape == true.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    return float(torch.dist(found.double(), true)) / float(torch.linalg.vector_norm(true))


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("c", "k"), PAIRS)
def test_forward_is_the_convolution_with_bias_and_relu(c: int, k: int, kind: Kind) -> None:
    for case in [case for case in CASES if case[:2] == (c, k)]:
        x, true = noise(case[2], c, *case[3:]), true_forward(*case)
        found = convolution(c, k, kind)
        assert error(found.forward(x, relu=False), true) < kind.bound(c), case
        assert error(found.forward(x), true.relu()) < kind.bound(c), case


@pytest.mark.parametrize(("c", "k"), PAIRS)
def test_backward_is_the_gradient_with_another_added_and_masked(c: int, k: int, kind: Kind) -> None:
    for case in [case for case in CASES if case[:2] == (c, k)]:
        n, size = case[2], case[3:]
        gradient, true = noise(n, k, *size), true_backward(*case)
        mask, add = noise(n, c, *size, seed=1), noise(n, c, *size, seed=2)
        found = convolution(c, k, kind)
        assert error(found.backward(gradient, size), true) < kind.bound(k), case
        both = found.backward(gradient, size, mask=mask, add=add)
        assert error(both, torch.where(mask > 0, true + add, 0.0)) < kind.bound(k), case
        plain = found.backward(gradient, size)
        assert torch.equal(found.backward(gradient, size, add=add), plain + add)
        assert torch.equal(found.backward(gradient, size, mask=mask), torch.where(mask > 0, plain, 0.0))


@pytest.mark.parametrize(("c", "k"), [(16, 48), (64, 128)])
def test_pooling_takes_the_first_of_the_largest(c: int, k: int, kind: Kind) -> None:
    found = convolution(c, k, kind)
    for n, h, w in SIZES:
        flat = torch.full((n, c, h, w), 0.7)
        for x in (noise(n, c, h, w), flat, torch.zeros_like(flat)):
            pooled, index = found.forward_pooled(x)
            if min(h, w) < 2:  # which torch refuses
                assert pooled.shape == index.shape == (n, k, h // 2, w // 2)
                continue
            true, at = F.max_pool2d(found.forward(x), 2, return_indices=True)
            assert torch.equal(pooled, true)
            assert torch.equal(index.long(), at // w % 2 * 2 + at % w % 2)


def test_where_a_picture_is_flat_its_pixels_stay_equal(exact_kind: Kind) -> None:
    _, index = convolution(64, 64, exact_kind).forward_pooled(torch.full((1, 64, 24, 24), 0.7))
    inner = index[..., 2:-2, 2:-2]  # of tiles that see nothing of the edge
    assert inner.numel() > 0
    assert (inner == 0).all()


@pytest.mark.parametrize(("c", "k"), [(16, 48), (64, 128)])
def test_a_gradient_behind_pooling_goes_where_it_came_from(c: int, k: int, kind: Kind) -> None:
    found = convolution(c, k, kind)
    for n, h, w in SIZES:
        pooled = noise(n, k, h // 2, w // 2)
        index = (noise(n, k, h // 2, w // 2, seed=1) * 10).byte() % 4
        gradient = torch.zeros(n, k, h, w)
        for four in range(4):
            places = gradient[:, :, four // 2 : h // 2 * 2 : 2, four % 2 : w // 2 * 2 : 2]
            places += torch.where(index == four, pooled, 0.0)
        mask, add = noise(n, c, h, w, seed=1), noise(n, c, h, w, seed=2)
        spread = found.backward(gradient, (h, w), mask=mask, add=add)
        assert torch.equal(found.backward(pooled, (h, w), index, mask, add), spread)


@pytest.mark.parametrize("size", [(8, 8), (17, 31), (13, 6)])
def test_both_directions_are_torchs_through_relu_and_pooling(size: tuple[int, int], exact_kind: Kind) -> None:
    weight, bias = weights(64, 64)
    for x in (noise(2, 64, *size), torch.zeros(2, 64, *size)):
        true_x = x.double().requires_grad_()
        true = F.max_pool2d(F.relu(F.conv2d(true_x, weight.double(), bias.double(), padding=1)), 2)
        gradient = noise(*true.shape, seed=3)
        (true_gradient,) = torch.autograd.grad(true, true_x, gradient.double())
        found = convolution(64, 64, exact_kind)
        pooled, index = found.forward_pooled(x)
        assert error(pooled, true.detach()) < exact_kind.bound(64)
        found_gradient = found.backward(torch.where(pooled > 0, gradient, 0.0), size, index)
        assert error(found_gradient, true_gradient) < exact_kind.bound(64)


@pytest.mark.parametrize("c", [3, 64])
def test_not_a_number_stays_so(c: int, kind: Kind) -> None:
    found = convolution(c, 64, kind)
    x = noise(1, c, 8, 8)
    x[0, 1, 2, 2] = torch.nan
    assert found.forward(x)[..., 1:4, 1:4].isnan().all()
    if c > 3:
        assert found.forward_pooled(x)[0][..., :2, :2].isnan().all()


def test_results_are_the_same_with_any_number_of_threads(kind: Kind) -> None:
    for c, k, n, h, w in [(3, 64, 2, 33, 40), (64, 64, 1, 68, 72), (64, 128, 1, 17, 31), (16, 48, 3, 64, 48)]:
        results = []
        for number in (1, 2, 4):
            with threads(number):
                found = WinogradConvolution(*weights(c, k), use=kind.instructions, bf16=kind.bf16)
                x, gradient = noise(n, c, h, w), noise(n, k, h, w)
                results.append([found.forward(x), found.backward(gradient, (h, w))])
                if c > 3:
                    results[-1] += found.forward_pooled(x)
        for others in results[1:]:
            assert all(map(torch.equal, results[0], others))


def test_a_picture_is_the_same_alone_and_among_others(kind: Kind) -> None:
    for c, k in [(3, 64), (64, 128)]:
        found, x, gradient = convolution(c, k, kind), noise(3, c, 9, 14), noise(3, k, 9, 14)
        alone = [found.forward(x[n : n + 1]) for n in range(3)]
        assert torch.equal(found.forward(x), torch.cat(alone))
        alone = [found.backward(gradient[n : n + 1], (9, 14)) for n in range(3)]
        assert torch.equal(found.backward(gradient, (9, 14)), torch.cat(alone))


def test_threads_that_call_at_once_do_not_disturb_each_other(kind: Kind) -> None:
    found = convolution(64, 64, kind)
    pictures = [noise(1, 64, 40, 40 + 8 * n) for n in range(4)]
    alone = [found.forward(x) for x in pictures]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(torch.equal, pool.map(found.forward, pictures), alone))


def test_any_memory_format_will_do(kind: Kind) -> None:
    found, x, gradient = convolution(64, 128, kind), noise(2, 64, 11, 10), noise(2, 128, 11, 10)
    assert torch.equal(found.forward(x.contiguous()), found.forward(x))
    assert torch.equal(found.forward(x[..., 1:, ::2]), found.forward(x[..., 1:, ::2].clone()))
    other = found.backward(gradient.contiguous(), (11, 10), mask=x.contiguous(), add=x.mT.contiguous().mT)
    assert torch.equal(other, found.backward(gradient, (11, 10), mask=x, add=x))


def test_what_it_cannot_read_is_refused(exact_kind: Kind) -> None:
    weight, bias = weights(64, 64)
    for wrong in [(weight[:, :, :1], bias), (weight, bias[:32]), (weight[:40], bias[:40]), (weight[:, :40], bias)]:
        with pytest.raises(ValueError, match=r"3 x 3|channels"):
            WinogradConvolution(*wrong)
    found, first, x = convolution(64, 64, exact_kind), convolution(3, 64, exact_kind), noise(1, 64, 6, 8)
    pooled, index = found.forward_pooled(x)
    refused: list[Callable[[], object]] = [
        lambda: found.forward(x.double()),
        lambda: found.forward(x[0]),
        lambda: found.forward(x[:, :32]),
        lambda: found.forward(x[:0]),
        lambda: found.forward_pooled(x[..., :0]),
        lambda: found.backward(x, (6, 7)),
        lambda: found.backward(pooled, (6, 8)),
        lambda: found.backward(x, (6, 8), mask=x[..., 1:]),
        lambda: found.backward(x, (6, 8), add=x.repeat(2, 1, 1, 1)),
        lambda: found.backward(pooled, (6, 8), index.int()),
        lambda: found.backward(pooled, (6, 8), index[..., 1:]),
        lambda: found.backward(x.to("meta"), (6, 8)),
        lambda: first.forward_pooled(noise(1, 3, 6, 8)),
        lambda: first.backward(pooled, (6, 8), index),
    ]
    for refuse in refused:
        with pytest.raises(ValueError, match=r"kernel|nothing"):
            refuse()


def test_without_a_built_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "EXTENSION_SUFFIXES", [])
    winograd._open.cache_clear()
    try:
        assert winograd.unavailable() == "The kernel was not built when medley was installed, which takes a C compiler."
        assert not winograd.has_bf16()
        with pytest.raises(RuntimeError, match="was not built"):
            WinogradConvolution(*weights(16, 48))
    finally:
        winograd._open.cache_clear()


def test_instructions_that_are_not_here_are_refused() -> None:
    with pytest.raises(RuntimeError, match="cannot use avx2 with bfloat16"):
        WinogradConvolution(*weights(16, 48), use="avx2", bf16=True)


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells what a process has loaded.")
def test_there_is_one_openmp_runtime() -> None:
    """In a process of its own, as others of these tests may load what they like."""
    program = (
        "import torch; from medley_workers.numbers.winograd import WinogradConvolution as C\n"
        "torch.set_num_threads(2); C(torch.zeros(64, 64, 3, 3), torch.zeros(64)).forward(torch.zeros(1, 64, 64, 48))\n"
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line.split('/')[-1]})"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(ended.stdout.split()) == 1, ended.stdout


def test_the_doctor_says_whether_it_is_in_use_and_how_to_have_it() -> None:
    found = findings_of(partial(painting.torch, Settings(device="cpu")))["kernel"]
    assert found.state == "green"
    assert {"avx2": "AVX2", "avx512": "AVX-512"}[winograd.instructions()] in found.found
    assert ("bfloat16" in found.found) == winograd.has_bf16()


@pytest.mark.parametrize(("machine", "state"), [("x86_64", "yellow"), ("aarch64", "green")])
def test_the_doctor_says_how_to_mend_what_can_be_mended(
    machine: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = painting._kernel_finding({"no_kernel": "The kernel was not built."})
    assert (found.state, found.found) == (state, "torch's convolutions, slower than our own: The kernel was not built")
    assert found.remedy is None or found.remedy.startswith("Install gcc, then medley again")


def compiler() -> str:
    """GCC, of which CI has one."""
    found = shutil.which("gcc")
    if not found:
        assert not os.environ.get("CI"), "There is no gcc."
        pytest.skip("There is no gcc.")
    return found


def compiled(path: Path, *options: str) -> Path:
    """The kernel, built into a file of its own; a warning is an error."""
    command = [compiler(), "-std=gnu11", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", *options]
    ended = subprocess.run([*command, "-o", path, SOURCE], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return path


WITHIN_BOUNDS = """
import ctypes, itertools, sys

c, libc = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(None)
libc.free.argtypes = [ctypes.c_void_p]
c.winograd_packed_size.restype = c.winograd_scratch_size.restype = ctypes.c_int64

def memory(size, byte=0):
    address = ctypes.c_void_p()
    assert libc.posix_memalign(ctypes.byref(address), ctypes.c_size_t(64), ctypes.c_size_t(size)) == 0
    ctypes.memset(address, byte, size)
    mine.append(address)
    return address

def sizes(*numbers):
    return [ctypes.c_int64(number) for number in numbers]

for level, (ins, out), (n, h, w), threads in itertools.product(
    range(1, c.winograd_level() + 1), [(3, 64), (16, 48), (64, 32)],
    [(1, 1, 1), (1, 1, 9), (2, 9, 1), (3, 2, 3), (1, 4, 4), (3, 5, 7), (1, 17, 31), (1, 64, 48), (1, 52, 100)], [1, 2],
):
    mine = []
    weight, bias = memory(out * ins * 36), memory(out * 4)
    whole, pooled = n * h * w, n * (h // 2) * (w // 2)
    for backward, (read, written) in enumerate([(ins, out), (out, ins)]):
        u = memory(c.winograd_packed_size(level, *sizes(read, written)))
        c.winograd_pack(level, threads, backward, *sizes(read, written), weight, u)
        call = [level, threads, *sizes(n, h, w, read, written)]
        scratch = memory(c.winograd_scratch_size(*call))
        x, y, add, mask = (memory(whole * channels * 4) for channels in (read, written, written, written))
        if backward:
            c.winograd_backward(*call, x, u, add, mask, y, scratch)
            c.winograd_backward(*call, x, u, None, None, y, scratch)
        else:
            c.winograd_forward(*call, x, u, bias, 1, y, scratch)
        if ins > 3:
            few = memory(pooled * out * 4)
            which = memory(pooled * out, 2)
            if backward:
                c.winograd_backward_pooled(*call, few, which, u, add, mask, y, scratch)
            else:
                c.winograd_forward_pooled(*call, x, u, bias, few, which, scratch)
    for address in mine:
        libc.free(address)
print("done", c.winograd_level())
"""
"""Calls everything, with memory that ends where the last byte does that it may be asked for."""


def test_it_stays_within_its_memory(tmp_path: Path) -> None:
    options = ["-O1", "-g1", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    library = compiled(tmp_path / "kernel.so", *options)
    sanitizer = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = os.environ | {"LD_PRELOAD": sanitizer.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-c", WITHIN_BOUNDS, str(library)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-5000:]
    assert ended.stdout.startswith("done ")
    assert int(ended.stdout.split()[1]) > 0


def test_elsewhere_it_compiles_to_nothing(tmp_path: Path) -> None:
    """As by another compiler; and without OpenMP."""
    for options in (["-D__clang__"], ["-O1", "-Wno-unknown-pragmas"]):
        library = compiled(tmp_path / f"{len(options)}.so", *options)
        program = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).winograd_level())"
        ended = subprocess.run(
            [sys.executable, "-c", program, str(library)], capture_output=True, text=True, check=True
        )
        assert (int(ended.stdout) == 0) == (options[0] == "-D__clang__")

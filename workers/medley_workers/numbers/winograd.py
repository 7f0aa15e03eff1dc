"""3 x 3 convolutions in C, about three times as fast as torch's in float32: ``winograd.c``, where it can run.

Its threads are those of torch's own OpenMP runtime: two runtimes in one process keep each other waiting at every
barrier. So the library is linked to none, and torch's is opened for all to see before it is loaded.
"""

import ctypes
import platform
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Instructions = Literal["avx2", "avx512"]

_LEVELS: dict[tuple[Instructions, bool], int] = {("avx2", False): 1, ("avx512", False): 2, ("avx512", True): 3}
"""What the library calls instructions, without and with products of bfloat16. Who has one has those before it."""

_WIDE = 16
"""Channels come in multiples of this, but for those of pictures."""

_LINE = 64
"""Bytes, of a cache's line."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""mallopt's names for how much must be free to be given back, and how large what is mapped by itself must be."""


def unavailable() -> str | None:
    """Why the kernel cannot be used here, one sentence; None if it can."""
    library, why_not = _open()
    return None if library else why_not


def instructions() -> Instructions:
    """The best instructions that this processor has for the kernel.

    Raises:
        RuntimeError: the kernel is unavailable.
    """
    return "avx512" if _library().level >= _LEVELS["avx512", False] else "avx2"


def has_bf16() -> bool:
    """Whether the kernel is available, and this processor multiplies bfloat16."""
    library, _ = _open()
    return library is not None and library.level >= _LEVELS["avx512", True]


class WinogradConvolution:
    """One convolution with padding 1, in both directions. No gradients are recorded.

    Pictures are float32 on the CPU. What is returned is channels_last; what is given had better be, as it is copied
    otherwise. Several threads may use one convolution.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, bf16: bool = False, use: Instructions | None = None) -> None:
        """Keep the weights; for either direction they are packed when it is first asked for.

        Args:
            weight: (K, C, 3, 3), float32; K is a multiple of 16, and so is C, unless it is less
            bias: (K,), float32
            bf16: whether the factors of all products are rounded to 8 bits, which is faster where :func:`has_bf16`
            use: which instructions; by default the best

        Raises:
            RuntimeError: the kernel, or what was asked of it, is not available here.
            ValueError: the weights are not of such shapes.
        """
        self._library = _library()
        chosen = use or instructions()
        level = _LEVELS.get((chosen, bf16))
        if level is None or level > self._library.level:
            raise RuntimeError(f"The kernel cannot use {chosen}{' with bfloat16' if bf16 else ''} here.")
        if weight.ndim != 4 or weight.shape[2:] != (3, 3) or bias.shape != weight.shape[:1]:
            raise ValueError(f"No weight and bias of 3 x 3 convolutions: {tuple(weight.shape)}, {tuple(bias.shape)}.")
        self._k, self._c = weight.shape[:2]
        if min(self._k, self._c) == 0 or self._k % _WIDE or (self._c > _WIDE and self._c % _WIDE):
            raise ValueError(f"The kernel is not for convolutions of {self._c} to {self._k} channels.")
        self._level = level
        self._weight = weight.detach().to("cpu", torch.float32).contiguous()
        self._bias = bias.detach().to("cpu", torch.float32).contiguous()
        self._packed: dict[bool, Tensor] = {}

    def forward(self, x: Tensor, relu: bool = True) -> Tensor:
        """The convolution of ``x`` (N, C, H, W) with the bias, and with ReLU if asked for: (N, K, H, W).

        Raises:
            ValueError: ``x`` is of another shape or type.
        """
        x = _pixels(x, self._c)
        n, _, h, w = x.shape
        out = _empty(n, self._k, h, w)
        self._call("forward", (n, h, w, self._c, self._k), x, self._pack(), self._bias, int(relu), out)
        return out

    def forward_pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The convolution of ``x`` (N, C, H, W) with the bias and ReLU, and of 2 x 2 pixels the largest.

        Returns:
            (N, K, H // 2, W // 2), and as uint8 which of the four each is: 0 to 3 by rows, the first of equal ones.

        Raises:
            ValueError: ``x`` is of another shape or type, or has less than 16 channels.
        """
        self._require_wide()
        x = _pixels(x, self._c)
        n, _, h, w = x.shape
        out = _empty(n, self._k, h // 2, w // 2)
        index = torch.empty_like(out, dtype=torch.uint8)
        self._call("forward_pooled", (n, h, w, self._c, self._k), x, self._pack(), self._bias, out, index)
        return out, index

    def backward(
        self,
        gradient: Tensor,
        size: tuple[int, int],
        index: Tensor | None = None,
        mask: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """The gradient at the input, from that at the output before its ReLU.

        Args:
            gradient: (N, K, H, W); or with ``index``, from behind the pooling, (N, K, H // 2, W // 2)
            size: (H, W)
            index: what :meth:`forward_pooled` returned
            mask: (N, C, H, W), what a ReLU made of the input: where it is not above 0, the result is 0
            add: (N, C, H, W), another gradient at the input, which is added before that

        Returns:
            (N, C, H, W)

        Raises:
            ValueError: something is of another shape or type, or there is an index and less than 16 channels.
        """
        h, w = size
        of_gradient = size if index is None else (h // 2, w // 2)
        gradient = _pixels(gradient, self._k, of_gradient)
        n = len(gradient)
        add = None if add is None else _pixels(add, self._c, size, n)
        mask = None if mask is None else _pixels(mask, self._c, size, n)
        out = _empty(n, self._c, h, w)
        sizes, ends = (n, h, w, self._k, self._c), (self._pack(backward=True), add, mask, out)
        if index is None:
            self._call("backward", sizes, gradient, *ends)
        else:
            self._require_wide()
            index = _pixels(index, self._k, of_gradient, n, torch.uint8)
            self._call("backward_pooled", sizes, gradient, index, *ends)
        return out

    def _require_wide(self) -> None:
        if self._c < _WIDE:
            raise ValueError(f"The kernel does not pool behind a convolution of {self._c} channels.")

    def _pack(self, *, backward: bool = False) -> Tensor:
        """The weights in the order in which one direction reads them."""
        if backward not in self._packed:
            read, written = (self._k, self._c) if backward else (self._c, self._k)
            size = self._library.c.winograd_packed_size(self._level, read, written)
            packed = _aligned(torch.empty(size + _LINE, dtype=torch.uint8))
            weight = self._weight.data_ptr()
            threads = torch.get_num_threads()
            self._library.c.winograd_pack(self._level, threads, backward, read, written, weight, packed.data_ptr())
            self._packed[backward] = packed
        return self._packed[backward]

    def _call(self, function: str, sizes: tuple[int, int, int, int, int], *arguments: Tensor | int | None) -> None:
        """Call ``winograd_<function>`` for sizes (n, h, w, channels read, channels written), with what is its own."""
        if min(sizes) < 1:
            raise ValueError("There is nothing to convolve.")
        c, threads = self._library.c, torch.get_num_threads()
        scratch = _SCRATCH.of(c.winograd_scratch_size(self._level, threads, *sizes))
        addresses = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
        getattr(c, f"winograd_{function}")(self._level, threads, *sizes, *addresses, scratch.data_ptr())


def _empty(n: int, channels: int, h: int, w: int) -> Tensor:
    return torch.empty((n, channels, h, w), dtype=torch.float32, memory_format=torch.channels_last)


def _pixels(
    x: Tensor,
    channels: int,
    size: tuple[int, int] | None = None,
    pictures: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``x`` in the order in which it is read, once it is known to be (pictures, channels, *size).

    Raises:
        ValueError: it is not, or is of another type, or on another device.
    """
    wanted = pictures, channels, *(size or (None, None))
    fits = x.ndim == len(wanted) and all(want in (None, have) for want, have in zip(wanted, x.shape, strict=True))
    if not fits or x.dtype != dtype or x.device.type != "cpu":
        shape = ", ".join("any" if want is None else str(want) for want in wanted)
        found = f"{tuple(x.shape)} of {x.dtype} on {x.device}"
        raise ValueError(f"The kernel takes ({shape}) of {dtype} on the CPU here, and this is {found}.")
    return x.contiguous(memory_format=torch.channels_last)


def _aligned(memory: Tensor) -> Tensor:
    """Bytes less those up to the first line of a cache."""
    return memory[-memory.data_ptr() % _LINE :]


class _Scratch(threading.local):
    """Memory between the stages, of each thread that calls; as large as any convolution so far needed it."""

    memory: Tensor | None = None

    def of(self, size: int) -> Tensor:
        """So many bytes or more, from the beginning of a line on."""
        if self.memory is None or len(self.memory) < size:
            self.memory = None  # there need not be both
            self.memory = _aligned(torch.empty(size + _LINE, dtype=torch.uint8))
        return self.memory


_SCRATCH = _Scratch()


@dataclass(frozen=True)
class _Library:
    """The loaded library, and the highest of :data:`_LEVELS` that it can use here."""

    c: ctypes.CDLL
    level: int


def _library() -> _Library:
    library, why_not = _open()
    if library is None:
        raise RuntimeError(why_not)
    return library


@cache
def _open() -> tuple[_Library | None, str]:
    """The library, or one sentence why there is none."""
    folder = Path(__file__).parent
    built = [path for suffix in EXTENSION_SUFFIXES if (path := folder / f"_winograd{suffix}").is_file()]
    if not built:
        return None, "The kernel was not built when medley was installed, which takes a C compiler."
    try:
        if runtime := _torchs_openmp():
            ctypes.CDLL(runtime, mode=ctypes.RTLD_GLOBAL)
        c = ctypes.CDLL(str(built[0]))
        _declare(c)
    except (OSError, AttributeError) as error:  # of another build, a library may lack a function
        return None, f"The kernel cannot be loaded beside this torch ({error})."
    if level := int(c.winograd_level()):
        _keep_freed_memory()
        return _Library(c, level), ""
    return None, f"The kernel is built by GCC, for processors with AVX2 and FMA; this is {platform.machine()}."


def _keep_freed_memory() -> None:
    """Have this process keep what it frees for what it asks for next, until ``malloc_trim`` (``devices.free_bytes``).

    Else a step's outputs, megabytes each, go back to the system when it ends, and the next step's are mapped and filled
    with zeros, page by page: a tenth of its time.
    """
    with suppress(OSError, AttributeError):  # only the GNU C library has it
        mallopt, most = ctypes.CDLL(None).mallopt, 2**31 - 1
        # Before glibc 2.35 the first is refused; the second alone would have every output be mapped by itself.
        if mallopt(_M_MMAP_THRESHOLD, most):
            mallopt(_M_TRIM_THRESHOLD, most)


def _torchs_openmp() -> str | None:
    """The file of the OpenMP runtime that torch has loaded, as far as that can be told."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    files = {line[line.index("/") :] for line in maps.read_text().splitlines() if "/" in line}
    runtimes = [file for file in files if Path(file).name.startswith(("libgomp", "libiomp5", "libomp"))]
    torchs = str(Path(torch.__file__).parent)
    return min(runtimes, key=lambda file: (not file.startswith(torchs), file), default=None)


def _declare(c: ctypes.CDLL) -> None:
    """Say what the functions take and return: ctypes would cut sizes and addresses to 32 bits."""
    integer, size, address = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    sizes = [integer, integer, size, size, size, size, size]
    functions = {
        "level": (integer, []),
        "packed_size": (size, [integer, size, size]),
        "pack": (None, [integer, integer, integer, size, size, address, address]),
        "scratch_size": (size, sizes),
        "forward": (None, [*sizes, address, address, address, integer, address, address]),
        "forward_pooled": (None, [*sizes, *[address] * 6]),
        "backward": (None, [*sizes, *[address] * 6]),
        "backward_pooled": (None, [*sizes, *[address] * 7]),
    }
    for name, (returned, taken) in functions.items():
        function = getattr(c, f"winograd_{name}")
        function.restype, function.argtypes = returned, taken

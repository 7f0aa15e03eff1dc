"""Weights onto a grid of integers, so that what the layer puts out changes least.

The recipe of GPTQ (Frantar et al. 2022), itself Optimal Brain Surgeon: columns are rounded one by one, and the error of
each is made up for by the columns that are not rounded yet, as far as what the layer sees (its inputs' second moments)
allows. Here with a transform over the taps of a kernel, whose neighbours are alike, and with a step for each column.
"""

import numpy as np
import torch
from torch import Tensor

from medley_workers.network.coded import MOST_INTEGER, STEPS_AN_OCTAVE, TAPS, CodedLayer, steps_of

_DAMPING = 0.01
"""Added to the moments' diagonal, as a share of its mean: what was hardly seen still has some weight."""

_BLOCK = 128
"""Columns that are rounded before the rest hears of their errors, in one product of matrices."""

_STEP_LOGS = np.iinfo(np.int8)


class Rounding:
    """One convolution, prepared to be rounded more or less finely."""

    def __init__(
        self, weight: Tensor, moments: Tensor | None, *, transform: bool = True, feedback: bool = True,
        column_steps: bool = True,
    ) -> None:  # fmt: skip
        """Transform the weights, and factor what is known of the inputs.

        Args:
            weight: (out, in, 3, 3)
            moments: (9 in, 9 in) of the inputs, or None if nothing is known of them
            transform: whether kernels are rounded in the basis in which their coefficients are least alike
            feedback: whether columns make up for the errors of those before them; needs moments
            column_steps: whether the step of a column is finer the more it matters; needs moments
        """
        self._taps = _transform(weight) if transform else torch.eye(TAPS).half()
        back = torch.linalg.inv(self._taps.double()).float()
        self._weight = (weight.reshape(-1, TAPS) @ back.T).reshape(len(weight), -1)
        self._factor = None if moments is None else _factor(_transformed(moments, self._taps.float()))
        self._feedback = feedback and moments is not None
        self._relative_steps = torch.ones(self._weight.shape[1])
        if column_steps and self._factor is not None:
            diagonal = self._factor.diagonal()
            self._relative_steps = diagonal.log().mean().exp() / diagonal
        self._deviation = float(weight.std())

    def at(self, coarseness: float) -> CodedLayer:
        """The convolution on a grid whose typical step is ``coarseness`` times the weights' deviation."""
        exact = torch.log2(self._relative_steps * self._deviation * coarseness) * STEPS_AN_OCTAVE
        logs = exact.round().clamp(_STEP_LOGS.min, _STEP_LOGS.max).to(torch.int8).numpy()
        steps = torch.from_numpy(steps_of(logs))
        if self._feedback and self._factor is not None:
            integers = _round_with_feedback(self._weight, self._factor, steps)
        else:
            integers = torch.round(self._weight / steps)
        integers = integers.clamp(-MOST_INTEGER, MOST_INTEGER).to(torch.int16)
        return CodedLayer(integers.numpy(), logs, self._taps.numpy())


def _transform(weight: Tensor) -> Tensor:
    """The Karhunen-Loeve transform of the kernels, (9, 9) in half precision: columns by falling energy."""
    kernels = weight.reshape(-1, TAPS).double()
    vectors: Tensor = torch.linalg.eigh(kernels.T @ kernels).eigenvectors
    return vectors.flip(1).half()


def _transformed(moments: Tensor, taps: Tensor) -> Tensor:
    """(I x T)^T H (I x T), as weights that are transformed see inputs that are transformed the other way."""
    size = len(moments)
    half = (moments.reshape(-1, TAPS) @ taps).reshape(size, size).T.contiguous()
    both = (half.reshape(-1, TAPS) @ taps).reshape(size, size)
    return (both + both.T) / 2


def _factor(moments: Tensor) -> Tensor:
    """R, upper triangular, with R R^T = H + damping: a row's error e costs |e R|^2."""
    damped = moments.double()
    # Where nothing was seen, as of a layer behind a dead one, any error costs the same.
    damped.diagonal().add_(_DAMPING * float(damped.diagonal().mean()) or 1.0)
    # Cholesky's factor is lower triangular; of the matrix turned round, and turned back, it is an upper one.
    turned: Tensor = torch.linalg.cholesky(damped.flip(0, 1))
    return turned.flip(0, 1).float().contiguous()


def _round_with_feedback(weight: Tensor, factor: Tensor, steps: Tensor) -> Tensor:
    """The integers (rows, columns) of weights of that shape, column by column.

    Of |e R|^2, where R is upper triangular, column i adds (e_i R_ii + sum over j < i of e_j R_ji)^2: it is least where
    the weight, plus that sum over R_ii, is rounded.
    """
    integers, errors = torch.empty_like(weight), torch.zeros_like(weight)
    for begin in range(0, weight.shape[1], _BLOCK):
        block = slice(begin, begin + _BLOCK)
        carried = errors[:, :begin] @ factor[:begin, block]
        # Columns become rows here, as those lie in one piece.
        here, block_errors = _round_block(weight[:, block].T, carried.T, factor[block, block], steps[block])
        integers[:, block], errors[:, block] = here.T, block_errors.T
    return integers


def _round_block(weight: Tensor, carried: Tensor, factor: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """The integers and the errors of a few columns, (columns, rows); ``carried`` is what earlier ones leave to them."""
    weight, carried = weight.contiguous(), carried.contiguous()
    integers, errors = torch.empty_like(weight), torch.empty_like(weight)
    for column, (step, own) in enumerate(zip(steps.tolist(), factor.diagonal().tolist(), strict=True)):
        wanted = torch.add(weight[column], carried[column], alpha=1 / own)
        integers[column] = torch.round(wanted / step)
        errors[column] = torch.sub(weight[column], integers[column], alpha=step)
        carried[column + 1 :].addr_(factor[column, column + 1 :], errors[column])
    return integers, errors

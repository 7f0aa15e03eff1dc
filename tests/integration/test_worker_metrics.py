"""A worker's numbers and its log, as programs read them: real workers, over a folder."""

import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import wait_until
from dashboards import dashboard
from farm import Farm, Worker, open_farm
from medley.errors import UsageError
from medley_workers.metrics import serve
from servers import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = "grafana/provisioning/dashboards/medley.json"


@pytest.fixture
def farm(tmp_path: Path, redis_url: str) -> Iterator[Farm]:
    with open_farm(
        tmp_path, redis_url, (tmp_path / "storage").as_uri(), lease_s=60.0
    ) as farm:  # nothing goes out twice
        yield farm


def numbers(port: int) -> dict[str, float]:
    """What the worker tells Prometheus, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return rows(answer.read().decode())


def rows(text: str) -> dict[str, float]:
    found = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in found}


def test_a_worker_tells_what_its_processes_did_those_that_died_among_them(farm: Farm, dataset: Path) -> None:
    broken = dataset / "contents" / "photo0.jpg"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    (port,) = free_ports(1)
    worker = farm.start_worker(metrics_port=port, processes=2)
    batch = farm.submit("b", dataset, frame_every=1)
    painted = len(farm.await_end(batch))
    wait_until(lambda: numbers(port)["medley_processes"] == 2, 30, "both processes' word")
    wait_until(lambda: numbers(port)["medley_processes_holding"] == 0, 30, "that the last message is done with")
    found = numbers(port)
    failed = batch.jobs - painted
    assert min(painted, failed) > 0
    assert found['medley_jobs_total{outcome="painted"}'] == painted
    assert found['medley_jobs_total{outcome="failed"}'] == failed
    assert found['medley_job_failures_total{kind="image"}'] == failed
    assert found["medley_steps_total"] == 3 * painted
    assert 0 < found["medley_step_seconds_total"] < found["medley_paint_seconds_total"]
    assert found["medley_frames_total"] == 4 * painted
    assert found["medley_uploads_total"] > found["medley_frames_total"]
    assert found["medley_upload_bytes_total"] > 1000 * painted
    assert found["medley_model_loads_total"] == worker.model_loads()
    assert found["medley_paint_seconds_total"] > 0
    assert found['medley_device_memory_bytes{device="cpu"}'] > 100e6

    with dashboard(farm.cluster) as shown:
        text = shown.ask("/metrics").text
    told = {name.partition("{")[0] for name in found} | set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    texts = (DEPLOY / file for file in ("prometheus/rules.yml", GRAFANA, "README.md", "../docs/operations.md"))
    named = {name for path in texts for name in re.findall(r"\bmedley_[a-z_]+\b", path.read_text())}
    assert named <= told, "rules, panels and pages name numbers that nobody tells"

    killed = worker.painters()[0]
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    wait_until(lambda: len(worker.painters()) == 2, 30, "another process")
    wait_until(lambda: numbers(port)["medley_processes"] == 2, 30, "its word")
    assert numbers(port)['medley_jobs_total{outcome="painted"}'] == painted, "what the dead one did counts on"


def test_a_log_that_nobody_reads_on_a_terminal_is_json(farm: Farm, dataset: Path) -> None:
    worker = farm.start_worker(log_format="auto")
    batch = farm.submit("b", dataset, pairs=1)
    (job,) = farm.await_end(batch)
    wait_until(lambda: told(worker, "painted,"), 20, "the end of the job in the log")
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    assert all({"at", "level", "message"} <= line.keys() for line in lines)
    about = [line for line in lines if re.search(r"Painting|painted,", line["message"])]
    assert len(about) == 2
    assert all((line["batch"], line["job"]) == ("b", job) for line in about)


def told(worker: Worker, what: str) -> bool:
    return what in worker.log.read_text()


def test_a_port_that_is_taken_is_an_error_that_names_the_setting(farm: Farm, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = farm.settings.model_copy(update={"metrics_port": port})
    (tmp_path / "metrics").mkdir()
    serve(settings, tmp_path / "metrics")
    with pytest.raises(UsageError, match="MEDLEY_METRICS_PORT"):
        serve(settings, tmp_path / "metrics")

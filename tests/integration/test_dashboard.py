"""The dashboard over a real Redis and a folder: what it shows, and who may decide what."""

import json
import logging
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from prometheus_client import REGISTRY

from conftest import wait_until
from dashboards import TOKEN, Dashboard, dashboard
from ended import all_pairs, paint_batch, render_walk
from medley import keys
from medley.batches.control import read_control
from medley.batches.removing import remove_batch, sweep
from medley.batches.stored import read_manifest, write_outcome
from medley.broker.paintings import Progress
from medley.broker.queue import QUEUES
from medley.broker.roster import Painter
from medley.cluster import Cluster
from medley.records.batches import Batch, Sampling
from medley.records.networks import WalkOptions
from medley.records.options import StyleTransferOptions
from medley.telling import quiet
from medley_producer.dashboard import farm as farming
from medley_producer.dashboard.views import BatchView
from medley_producer.local import private_redis
from medley_producer.status import being_painted
from medley_producer.submit import Request, submit, submit_walk
from medley_workers.jobs.watching import Watch
from medley_workers.pulse import Pulse
from outcomes import an_outcome


@pytest.fixture
def ended(cluster: Cluster, dataset: Path) -> Batch:
    """A batch of six jobs that has ended, one of which failed."""
    return paint_batch(cluster, all_pairs(dataset), fail=1)


@pytest.fixture
def waiting(cluster: Cluster, dataset: Path) -> Batch:
    """A batch that nobody paints."""
    return submit(cluster, Request("night", all_pairs(dataset), StyleTransferOptions()), "bulk", quiet).batch


@pytest.fixture
def shown(cluster: Cluster) -> Iterator[Dashboard]:
    with dashboard(cluster) as shown:
        yield shown


@pytest.fixture
def controlled(cluster: Cluster) -> Iterator[Dashboard]:
    with dashboard(cluster, TOKEN) as shown:
        yield shown


def jobs_of(shown: Dashboard, name: str, query: str = "") -> list[dict[str, object]]:
    """The jobs of a batch, once its manifest is read."""
    found = wait_until(
        lambda: answer if (answer := shown.api(f"batches/{name}/jobs{query}"))["complete"] else None, 20, "the manifest"
    )
    jobs: list[dict[str, object]] = found["jobs"]
    return jobs


def test_a_batch_that_has_ended_is_told_from_storage_alone(cluster: Cluster, ended: Batch, shown: Dashboard) -> None:
    cluster.ledger._redis.flushall()
    (batch,) = shown.api("batches")
    assert (batch["name"], batch["state"], batch["jobs"], batch["done"], batch["failed"]) == ("b", "finished", 6, 5, 1)
    assert batch["progress"] == 1
    jobs = jobs_of(shown, "b")
    assert [job["job"] for job in jobs] == [job.id for job in read_manifest(cluster.storage, ended)]
    wait_until(lambda: [job["state"] for job in jobs_of(shown, "b")] == ["done"] * 5 + ["failed"], 20, "their ends")
    (failed,) = jobs_of(shown, "b", "?state=failed")
    assert failed["kind"] == "image"
    assert [job["names"] for job in jobs_of(shown, "b", "?q=photo1")] == [job["names"] for job in jobs[3:]]
    assert jobs_of(shown, "b", "?q=%25") == [], "a letter that SQL would take for any"


@pytest.mark.usefixtures("ended")
def test_a_job_is_told_with_its_frames_and_inputs(cluster: Cluster, shown: Dashboard) -> None:
    first, *_ = jobs_of(shown, "b")
    detail = wait_until(
        lambda: found if (found := shown.api(f"batches/b/jobs/{first['job']}"))["state"] == "done" else None, 20, "it"
    )
    assert [frame["step"] for frame in detail["frames"]] == [0, 2, 4]
    assert detail["losses"][0][0] == 0
    assert detail["options"]["num_steps"] == 4
    for url in (detail["picture"], *(each["url"] for each in (*detail["inputs"], *detail["frames"]))):
        answer = shown.ask(url)
        assert answer.status == 200
        assert answer.headers["content-type"] in ("image/png", "image/jpeg")
        assert cluster.storage.get(unquote(url.removeprefix("/storage/"))) == answer.body
    page = shown.ask(f"/batches/b/jobs/{first['job']}")
    assert page.status == 200
    assert str(first["names"]) in page.text


@pytest.mark.usefixtures("ended")
def test_failures_are_grouped_by_reason(shown: Dashboard) -> None:
    found = wait_until(
        lambda: told if (told := shown.api("batches/b/failures"))["complete"] else None, 20, "the failures"
    )
    (group,) = found["groups"]
    assert (group["kind"], group["jobs"]) == ("image", 1)


def test_what_is_painted_is_told_with_its_step_and_whether_it_is_stuck(
    cluster: Cluster, waiting: Batch, shown: Dashboard
) -> None:
    job, *_ = read_manifest(cluster.storage, waiting)
    progress = Progress(step=40, steps=100, loss=1234.5, names=job.names, worker="w#0", at=time.time())
    cluster.ledger.report("night", job.id, progress)
    told = wait_until(lambda: [j for j in jobs_of(shown, "night") if j["state"] == "painting"], 20, "the painting")
    (painting,) = (job["painting"] for job in told)
    assert isinstance(painting, dict)
    assert (painting["step"], painting["steps"], painting["loss"], painting["stuck"]) == (40, 100, 1234.5, False)
    cluster.ledger.report("night", job.id, progress.model_copy(update={"at": progress.at - 50}))
    wait_until(lambda: [j for j in jobs_of(shown, "night") if (j["painting"] or {}).get("stuck")], 20, "that it stalls")  # type: ignore[attr-defined]


def test_what_is_not_there_is_an_error_in_a_sentence(shown: Dashboard) -> None:
    for path in ("/api/batches/none", "/api/batches/none/jobs", f"/api/batches/none/jobs/{'0' * 32}", "/batches/none"):
        answer = shown.ask(path)
        assert answer.status == 404
        assert "no batch 'none'" in answer.json["detail"]
    assert shown.ask("/api/batches/b/jobs?page=0").status == 422
    page = shown.ask("/batches/none", headers={"Accept": "text/html"})
    assert page.status == 404
    assert "There is no batch" in page.text


@pytest.mark.usefixtures("ended")
def test_of_storage_only_pictures_and_pages_are_shown(shown: Dashboard) -> None:
    others = (
        "batches/b/batch.json",
        "batches/b/control.json",
        "jobs/../batches/b/index.html",
        "open/b",
        "inputs/x.png",
    )
    for key in (*others, ""):
        assert shown.ask(f"/storage/{quote(key, safe='')}").status == 404, key


@pytest.mark.usefixtures("ended")
def test_a_gallery_and_a_video_are_shown_out_of_storage(shown: Dashboard) -> None:
    gallery = shown.ask(f"/storage/{keys.gallery('b')}")
    assert gallery.status == 200
    assert gallery.headers["content-type"].startswith("text/html")
    video = shown.ask(f"/storage/{keys.video('b')}", headers={"Range": "bytes=0-99"})
    assert (video.status, len(video.body), video.headers["content-type"]) == (206, 100, "video/mp4")


def test_whoever_calls_it_by_another_name_is_refused(shown: Dashboard) -> None:
    assert shown.ask("/api/batches", headers={"Host": "elsewhere.example"}).status == 400


@pytest.mark.usefixtures("waiting")
def test_nobody_decides_on_a_dashboard_that_only_shows(cluster: Cluster, shown: Dashboard) -> None:
    answer = shown.ask("/api/batches/night/actions/pause", "", {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 403
    assert "--allow-control" in answer.json["detail"]
    assert shown.ask("/session", f"token={quote(TOKEN)}").status == 401
    assert shown.ask("/batches/night/pause", "key=x").status == 403
    assert read_control(cluster.storage, "night") == "running"
    assert "Take control" not in shown.ask("/", headers={"Accept": "text/html"}).text


@pytest.mark.usefixtures("waiting")
def test_programs_decide_with_the_token_and_that_is_told(
    cluster: Cluster, controlled: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        assert controlled.ask("/api/batches/night/actions/pause", "", wrong).status == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    with caplog.at_level(logging.WARNING, "medley.audit"):
        assert controlled.ask("/api/batches/night/actions/pause", "", right).json == {
            "batch": "night", "action": "pause", "jobs": 0,
        }  # fmt: skip
        assert read_control(cluster.storage, "night") == "paused"
        assert controlled.ask("/api/batches/night/actions/resume", "", right).status == 200
        assert read_control(cluster.storage, "night") == "running"
        assert controlled.ask("/api/batches/none/actions/pause", "", right).status == 404
    told = [message.split(",")[0] for message in caplog.messages]
    assert told == ["A wrong token", "pause of batch night", "resume of batch night"]


@pytest.mark.usefixtures("waiting")
def test_a_browser_decides_only_by_the_forms_that_it_was_shown(cluster: Cluster, controlled: Dashboard) -> None:
    let_in = controlled.ask("/session", f"token={quote(TOKEN)}&path=/batches/night")
    assert (let_in.status, let_in.headers["location"]) == (303, "/batches/night")
    cookie = let_in.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    mine = {"Cookie": cookie.split(";")[0], "Accept": "text/html"}

    def page() -> str | None:
        text = controlled.ask("/batches/night", headers=mine).text
        return text if "Pause" in text else None

    (key,) = set(re.findall(r'name="key" value="([0-9a-f]+)"', wait_until(page, 20, "the button")))
    assert controlled.ask("/batches/night/pause", "key=wrong", mine).status == 403
    assert controlled.ask("/batches/night/pause", f"key={key}").status == 403, "without the cookie"
    assert read_control(cluster.storage, "night") == "running"
    assert controlled.ask("/batches/night/pause", f"key={key}", mine).status == 303
    assert read_control(cluster.storage, "night") == "paused"


def test_a_browser_is_never_sent_elsewhere(controlled: Dashboard) -> None:
    for path in ("https://elsewhere.example/", "//elsewhere.example/", "/\\elsewhere.example"):
        answer = controlled.ask("/session", f"token={quote(TOKEN)}&path={quote(path, safe='')}")
        assert answer.headers["location"] == "/"


@pytest.mark.usefixtures("ended")
def test_no_page_may_load_or_run_anything_from_elsewhere(shown: Dashboard) -> None:
    for path in ("/", "/workers", "/api", "/batches/b"):
        answer = shown.ask(path, headers={"Accept": "text/html"})
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "<style" not in answer.text
        assert " style=" not in answer.text
        assert "://" not in answer.text.replace("http://www.w3.org", "")


def test_names_of_files_are_shown_as_they_are(cluster: Cluster, dataset: Path, shown: Dashboard) -> None:
    (dataset / "contents" / "photo0.jpg").rename(dataset / "contents" / "<b>&\"'.jpg")
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), sample_seed="x")
    submit(cluster, Request("odd", sampling, StyleTransferOptions()), "bulk", quiet)
    wait_until(lambda: [b for b in shown.api("batches") if b["name"] == "odd"], 20, "the batch")
    jobs_of(shown, "odd")
    page = shown.ask("/batches/odd", headers={"Accept": "text/html"}).text
    assert "&lt;b&gt;" in page
    assert "<b>&" not in page


def test_events_say_that_something_has_changed(cluster: Cluster, waiting: Batch, shown: Dashboard) -> None:
    with urllib.request.urlopen(f"{shown.url}/events", timeout=20) as events:  # noqa: S310
        assert events.readline() == b"event: changed\n"
        submit(cluster, Request("two", waiting.sampling, StyleTransferOptions(num_steps=9)), "bulk", quiet)
        lines = (events.readline() for _ in range(60))
        assert next(line for line in lines if line.startswith(b"event: changed"))


@pytest.mark.usefixtures("waiting")
def test_numbers_for_prometheus(cluster: Cluster, shown: Dashboard) -> None:
    left = 'medley_batch_jobs{batch="night",state="left"}'

    def numbers() -> dict[str, float] | None:
        rows = (line.rpartition(" ") for line in shown.ask("/metrics").text.splitlines() if not line.startswith("#"))
        found = {name: float(value) for name, _, value in rows}
        return found if left in found else None

    found = wait_until(numbers, 20, "the batch")
    assert found[left] == 6
    waiting = f'medley_queue_messages{{queue="{QUEUES["bulk"]}",state="waiting"}}'
    assert found[waiting] == cluster.ledger.queue_lengths()["bulk"]
    assert found["medley_up"] == 1
    assert found["medley_painters_busy"] == 0


def test_openapi_describes_every_answer(shown: Dashboard) -> None:
    description = json.loads(shown.ask("/openapi.json").body)
    assert set(description["paths"]) >= {"/api/farm", "/api/batches", "/api/batches/{name}/jobs/{job}", "/api/workers"}
    for methods in description["paths"].values():
        for operation in methods.values():
            assert {"200", "503"} <= operation["responses"].keys()


def test_pages_of_jobs_lead_to_one_another_and_keep_what_was_asked(
    cluster: Cluster, dataset: Path, shown: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farming, "PAGE_JOBS", 2)
    submit(cluster, Request("many", all_pairs(dataset), StyleTransferOptions()), "bulk", quiet)
    assert len(jobs_of(shown, "many")) == 2
    first = shown.ask("/batches/many?q=photo0&state=waiting", headers={"Accept": "text/html"}).text
    (link,) = re.findall(r'href="([^"]+)">Next', first)
    assert "q=photo0" in link
    second = shown.ask(f"/batches/many{unescape(link)}", headers={"Accept": "text/html"}).text
    names = [re.findall(r'class="names">([^<]+)', page) for page in (first, second)]
    assert [len(each) for each in names] == [2, 1]
    assert all(name.startswith("photo0.jpg x ") for name in {*names[0], *names[1]})
    assert shown.ask("/batches/many?q=&state=&page=2", headers={"Accept": "text/html"}).status == 200


def test_a_batch_that_is_removed_is_shown_no_more_and_one_of_its_name_is_another(
    cluster: Cluster, waiting: Batch, shown: Dashboard
) -> None:
    jobs_of(shown, "night")
    remove_batch(cluster, "night", force=True)
    wait_until(lambda: shown.api("batches") == [], 20, "that it is gone")
    assert shown.ask("/api/batches/night/jobs").status == 404
    submit(cluster, Request("night", waiting.sampling, StyleTransferOptions(num_steps=7)), "bulk", quiet)
    wait_until(lambda: shown.api("batches"), 20, "the other one")
    job, *_ = jobs_of(shown, "night")
    assert shown.api(f"batches/night/jobs/{job['job']}")["options"]["num_steps"] == 7


@pytest.mark.usefixtures("ended")
def test_what_storage_knows_is_shown_while_redis_is_away(cluster: Cluster) -> None:
    redis = ExitStack()
    settings = cluster.settings.model_copy(update={"redis_url": redis.enter_context(private_redis())})
    with redis, dashboard(Cluster.open(settings)) as shown:
        wait_until(lambda: [j["state"] for j in jobs_of(shown, "b")] == ["done"] * 5 + ["failed"], 20, "the ends")
        redis.close()
        wait_until(lambda: shown.api("farm")["problem"], 60, "that Redis is missed")
        assert [job["state"] for job in jobs_of(shown, "b")] == ["done"] * 5 + ["failed"]
        page = shown.ask("/batches/b", headers={"Accept": "text/html"})
        assert page.status == 200
        assert "does not answer" in page.text
        assert shown.ask("/healthz").status == 503
        assert "medley_up 0.0" in shown.ask("/metrics").text


def test_a_walk_is_shown_without_what_it_does_not_have(cluster: Cluster, shown: Dashboard) -> None:
    render_walk(cluster, WalkOptions(xres=64, yres=48, frames=8))
    wait_until(lambda: [b for b in shown.api("batches") if b["state"] == "finished"], 20, "the walk")
    page = shown.ask("/batches/w", headers={"Accept": "text/html"}).text
    assert f'href="/storage/{keys.video("w")}"' in page
    assert "contact sheet" not in page


def test_the_log_of_a_failure_has_its_lines(cluster: Cluster, waiting: Batch, shown: Dashboard) -> None:
    job, *_ = read_manifest(cluster.storage, waiting)
    log = ("the first line", "the last <line>")
    write_outcome(cluster.storage, an_outcome(waiting, job, "image").model_copy(update={"log": log, "reason": "No."}))
    cluster.ledger.forget("night")  # which counts anew
    path = f"/batches/night/jobs/{job.id}"
    page = wait_until(
        lambda: text if "failed" in (text := shown.ask(path, headers={"Accept": "text/html"}).text) else None, 20, "it"
    )
    assert "the first line\nthe last &lt;line&gt;\n" in page


def test_whoever_decides_about_a_batch_that_was_just_removed_is_told(cluster: Cluster, waiting: Batch) -> None:
    with dashboard(cluster, TOKEN) as controlled:
        jobs_of(controlled, waiting.name)
        remove_batch(cluster, "night", force=True)
        answer = controlled.ask("/api/batches/night/actions/pause", "", {"Authorization": f"Bearer {TOKEN}"})
        assert answer.status == 404
    assert list(cluster.storage.list("batches/")) == []
    assert list(cluster.storage.list(keys.OPEN)) == []


def test_pictures_of_a_batch_that_was_painted_once_more_are_the_new_ones(cluster: Cluster, dataset: Path) -> None:
    sampling = all_pairs(dataset, contents=1, styles=1)
    with dashboard(cluster) as shown:
        seen = set()
        for _ in range(2):
            paint_batch(cluster, sampling)
            painted = wait_until(lambda: [j for j in jobs_of(shown, "b") if j["preview"]], 20, "the picture")
            (preview,) = (str(job["preview"]) for job in painted)
            assert shown.ask(preview).status == 200
            assert shown.ask(str(shown.api(f"batches/b/jobs/{painted[0]['job']}")["picture"])).status == 200
            seen.add(preview)
            remove_batch(cluster, "b", force=True)
            sweep(cluster)
            wait_until(lambda: shown.api("batches") == [], 20, "that it is gone")
        assert len(seen) == 2


def test_all_pictures_of_a_pass_are_being_painted(cluster: Cluster, waiting: Batch) -> None:
    first, second, before = list(read_manifest(cluster.storage, waiting))[:3]
    now = time.time()
    for job, at in ((first, now), (second, now - 0.5), (before, now - 20)):
        progress = Progress(step=1, steps=100, loss=1.0, names=job.names, worker="w#0", at=at)
        cluster.ledger.report("night", job.id, progress)
    assert set(being_painted(cluster, waiting)) == {first.id, second.id}


def test_a_page_that_is_old_when_it_is_sent_is_asked_for_again(
    waiting: Batch, shown: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs_of(shown, waiting.name)
    pieces = farming.Farm.pieces

    def meanwhile(self: farming.Farm, view: BatchView) -> Mapping[str, str]:
        self.watcher.changed()
        return pieces(self, view)

    monkeypatch.setattr(farming.Farm, "pieces", meanwhile)
    page = shown.ask("/batches/night", headers={"Accept": "text/html"}).text
    (version,) = re.findall(r'data-version="([^"]+)"', page)
    with urllib.request.urlopen(f"{shown.url}/events", timeout=20) as events:  # noqa: S310
        told = next(line for line in events if line.startswith(b"data: "))
    assert told.decode().split() != ["data:", version]


def test_frames_of_walks_count_as_steps_however_often_it_is_looked(cluster: Cluster) -> None:
    batch = submit_walk(cluster, "w", WalkOptions(xres=64, yres=48, frames=8), "bulk", quiet)
    (job,) = read_manifest(cluster.storage, batch)
    pulse = Pulse(cluster, lambda: Painter(name="w#0", device="cpu", model_loads=0, jobs=0), speaks_for_worker=False)
    watch, before = Watch(cluster, pulse, "w#0", batch, job), REGISTRY.get_sample_value("medley_steps_total")
    for done in (0, 0, 3, 3, 8):
        watch.look_at_frame(done)
    assert (REGISTRY.get_sample_value("medley_steps_total") or 0) - (before or 0) == 8

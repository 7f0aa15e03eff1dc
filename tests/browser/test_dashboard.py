"""The dashboard in a browser, over real services and workers: a batch appears, moves, fails, is retried, and ends."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from browser.visiting import check, visiting
from dashboards import TOKEN, Dashboard, dashboard
from ended import all_pairs, paint_batch
from farm import Farm, open_farm
from fixtures_s3 import storage_on
from medley import keys
from medley.batches.stored import read_manifest, write_outcome
from medley.cluster import Cluster
from medley.records.kinds import Job
from medley.records.options import StyleTransferOptions
from medley.telling import quiet
from medley_producer.submit import Request, submit
from outcomes import an_outcome
from servers import S3Server

WITHIN_MS = 60_000


@pytest.fixture
def farm(tmp_path: Path, redis_url: str, seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    """Over a bucket into which nobody may look without its keys."""
    storage = storage_on(seaweedfs_server, monkeypatch)
    with open_farm(tmp_path, redis_url, storage.root, s3_endpoint_url=seaweedfs_server.endpoint_url) as farm:
        yield farm


@pytest.fixture
def shown(farm: Farm) -> Iterator[Dashboard]:
    with dashboard(farm.cluster, TOKEN) as shown:
        yield shown


def test_a_batch_appears_moves_fails_is_retried_and_ends(
    browser: Browser, farm: Farm, dataset: Path, shown: Dashboard
) -> None:
    photo = dataset / "contents" / "photo0.jpg"
    whole = photo.read_bytes()
    with visiting(browser, shown.url) as visit:
        page = visit.page
        expect(page.get_by_text("There are no batches yet")).to_be_visible()
        photo.write_bytes(whole[: len(whole) // 2])
        batch = farm.submit("night", dataset, num_steps=12, frame_every=6)
        expect(page.get_by_role("link", name="night")).to_be_visible(timeout=WITHIN_MS)
        page.get_by_role("link", name="night").click()
        expect(page.get_by_text(f"0 of {batch.jobs}")).to_be_visible()
        farm.start_worker()
        expect(page.locator("#now progress")).to_be_visible(timeout=WITHIN_MS)
        expect(page.locator("h1 .state")).to_have_text("finished", timeout=WITHIN_MS)
        group = page.locator("details.failure").first
        group.locator("summary").click()
        expect(group).to_contain_text("photo0.jpg")
        check(visit)

        assert page.get_by_role("button", name="Retry what failed").count() == 0
        page.get_by_label("Token").fill("not the token, but long")
        visit.complaints.clear()
        page.get_by_role("button", name="Take control").click()
        expect(page.get_by_role("alert")).to_contain_text("not the token")
        page.goto(f"{shown.url}/batches/night")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Take control").click()
        visit.complaints.clear()  # of the refusal
        photo.write_bytes(whole)
        page.get_by_role("button", name="Retry what failed").click()
        expect(page.locator("h1 .state")).not_to_have_text("finished")
        expect(page.locator("h1 .state")).to_have_text("finished", timeout=WITHIN_MS)
        assert visit.complaints == []


def test_pages_stand_at_every_width_by_night_and_for_everybody(
    browser: Browser, farm: Farm, dataset: Path, shown: Dashboard
) -> None:
    photo = dataset / "contents" / "photo0.jpg"
    photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
    farm.start_worker()
    batch = farm.submit("night", dataset, pairs=4, frame_every=1)
    job = next(iter(farm.await_end(batch)))
    for scheme, width in (("light", 390), ("dark", 1440)):
        for path in ("/", "/workers", "/api", "/batches/night", f"/batches/night/jobs/{job}"):
            with visiting(browser, shown.url + path, width, color_scheme=scheme) as visit:
                visit.page.locator("main").wait_for()
                check(visit)
                found = Axe().run(visit.page).response["violations"]
                serious = [each for each in found if each["impact"] in ("serious", "critical")]
                assert not serious, f"{path}: {json.dumps(serious, indent=1)}"


def test_a_gallery_is_shown_and_may_do_nothing_in_the_dashboards_name(
    browser: Browser, cluster: Cluster, dataset: Path
) -> None:
    paint_batch(cluster, all_pairs(dataset, contents=1, styles=2))
    with dashboard(cluster, TOKEN) as shown, visiting(browser, f"{shown.url}/storage/{keys.gallery('b')}") as visit:
        visit.page.locator("main").wait_for()
        check(visit)
        assert visit.page.evaluate("window.origin") == "null"


def test_what_a_person_is_at_stays_as_it_is_while_the_page_is_brought_up_to_date(
    browser: Browser, cluster: Cluster, dataset: Path
) -> None:
    batch = submit(cluster, Request("night", all_pairs(dataset), StyleTransferOptions()), "bulk", quiet).batch
    first, *others = read_manifest(cluster.storage, batch)

    def fail(job: Job) -> None:
        told = {"reason": f"{job.names} is broken.", "log": ("a line",)}
        write_outcome(cluster.storage, an_outcome(batch, job, "image").model_copy(update=told))
        cluster.ledger.forget("night")  # which counts anew

    fail(first)
    with dashboard(cluster, TOKEN) as shown, visiting(browser, f"{shown.url}/batches/night") as visit:
        page = visit.page
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Take control").click()
        group = page.locator("details.failure").first
        group.locator("summary").click()
        page.get_by_role("button", name="Cancel").focus()
        for job in others[:2]:
            fail(job)
        expect(page.locator("#head")).to_contain_text("3 failed", timeout=WITHIN_MS)
        expect(group).to_contain_text("3 ×", timeout=WITHIN_MS)
        assert group.get_attribute("open") is not None
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        assert visit.complaints == []


def test_the_keyboard_is_enough(browser: Browser, farm: Farm, dataset: Path, shown: Dashboard) -> None:
    farm.submit("night", dataset, pairs=2)
    with visiting(browser, shown.url) as visit:
        page = visit.page
        expect(page.get_by_role("link", name="night")).to_be_visible(timeout=WITHIN_MS)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "To the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "night":
                break
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_contain_text("night")

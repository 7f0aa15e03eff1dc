"""The galleries of real batches, as their workers left them: in a public bucket of S3, and in a folder."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browser.visiting import Visit, check, file_url, visiting
from ended import all_pairs, copy_all, paint_batch, render_walk
from fixtures_s3 import storage_on
from medley import keys
from medley.cluster import Cluster
from medley.records.networks import WalkOptions
from medley_producer.layout import lay_out
from servers import PUBLIC, S3Server


@pytest.fixture
def places(
    cluster: Cluster, dataset: Path, tmp_path: Path, seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, str]]:
    """Where the pages of a batch and of a walk are, by kind of place."""
    pairs = paint_batch(cluster, all_pairs(dataset), fail=1, num_steps=6)
    walk = render_walk(cluster, WalkOptions(xres=64, frames=60))
    bucket = storage_on(seaweedfs_server, monkeypatch, PUBLIC)
    copy_all(cluster.storage, bucket)
    root = f"{seaweedfs_server.endpoint_url}/{bucket.root.removeprefix('s3://')}"
    for batch in (pairs, walk):
        lay_out(cluster.storage, cluster.settings, batch, tmp_path / "out" / batch.name)
    return {
        "s3": {name: f"{root}/{keys.gallery(name)}" for name in ("b", "w")},
        "storage": {name: file_url(tmp_path / "storage" / keys.gallery(name)) for name in ("b", "w")},
        "folder": {name: file_url(tmp_path / "out" / name / "index.html") for name in ("b", "w")},
    }


SHOWN = "[...document.querySelectorAll('dialog img')].map((image) => image.src).join()"


def look_through(visit: Visit) -> None:
    """Open the first pair, and go from the photo to the picture."""
    page = visit.page
    check(visit)
    page.locator(".card.painted a").first.click()
    slider = page.locator("dialog input[type=range]")
    slider.focus()
    assert slider.get_attribute("max") == "3"  # steps 0, 2, 4, and the picture
    slider.press("End")
    shown = [page.evaluate(SHOWN)]
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight"):
        slider.press(key)
        # A frame takes its place once it is decoded.
        page.wait_for_function(f"before => {SHOWN} !== before", arg=shown[-1])
        shown.append(page.evaluate(SHOWN))
    assert len(set(shown)) == 4
    assert page.locator("dialog svg polyline").count() == 1
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert visit.complaints == []
    assert visit.foreign() == []


def test_a_batch_can_be_looked_through_wherever_it_lies(browser: Browser, places: dict[str, dict[str, str]]) -> None:
    for where, pages in places.items():
        with visiting(browser, pages["b"], 1440) as visit:
            assert visit.page.locator(".card").count() == 6, where
            assert visit.page.locator(".card.failed").count() == 1
            look_through(visit)
        with visiting(browser, pages["b"], 390, 844) as visit:
            check(visit)
        with visiting(browser, pages["w"], 1440) as visit:
            check(visit)
            assert visit.page.locator("video").count() == 1

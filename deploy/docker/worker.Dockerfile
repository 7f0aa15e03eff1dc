# A worker: paints on the NVIDIA GPUs that its container is given, or on the CPU. Build it from the project's root:
#   docker build -f deploy/docker/worker.Dockerfile -t medley-worker .
FROM python:3.12-slim AS build
# GCC builds the kernel for CPUs; without it medley would work, slower.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml LICENSE constraints.txt /src/
COPY docs/package.md /src/docs/
COPY shared /src/shared
COPY producer /src/producer
COPY workers /src/workers
RUN python -m venv /opt/medley && /opt/medley/bin/pip install --no-cache-dir -c /src/constraints.txt '/src[worker]'

FROM python:3.12-slim
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home medley
COPY --from=build /opt/medley /opt/medley
ENV PATH=/opt/medley/bin:$PATH PYTHONUNBUFFERED=1 \
    MEDLEY_CACHE_DIR=/cache MEDLEY_METRICS_PORT=9464 MEDLEY_METRICS_HOST=0.0.0.0
RUN mkdir /cache && chown medley /cache
VOLUME /cache
USER 10001
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/metrics', timeout=4)"]
ENTRYPOINT ["medley"]
CMD ["worker"]

# The rest: submits, looks, decides, and serves the dashboard. It has no torch, and needs no GPU.
#   docker build -f deploy/docker/medley.Dockerfile -t medley .
FROM python:3.12-slim
COPY pyproject.toml LICENSE constraints.txt /src/
COPY docs/package.md /src/docs/
COPY shared /src/shared
COPY producer /src/producer
COPY workers /src/workers
RUN pip install --no-cache-dir -c /src/constraints.txt '/src[dashboard]' && rm -r /src \
    && useradd --uid 10001 --create-home medley
ENV PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["medley"]
CMD ["dashboard", "--host", "0.0.0.0"]

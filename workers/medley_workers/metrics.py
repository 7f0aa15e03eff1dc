"""The numbers that a worker tells Prometheus: of all its painting processes together, at one port.

Each process keeps its own in a file, which the library does if ``PROMETHEUS_MULTIPROC_DIR`` is set when it is imported;
the worker's parent reads them all (see :mod:`medley_workers.telemetry`). Where it is not set, nobody sees the numbers.
"""

from prometheus_client import Counter, Gauge

JOBS = Counter(
    "medley_jobs", "Jobs that came to an outcome: painted, reused (another batch had it), failed.", ["outcome"]
)
for _outcome in "painted", "reused", "failed":
    JOBS.labels(_outcome)  # from the start, as a rate needs a number before the first
FAILURES = Counter("medley_job_failures", "Jobs that failed, by the kind of error.", ["kind"])
GIVEN_BACK = Counter(
    "medley_jobs_given_back", "Attempts taken back: the job was given back to its queue, or its batch was stopped."
)
RETRIES = Counter("medley_job_retries", "Attempts at jobs that had been begun before.")
DEATHS = Counter("medley_process_deaths", "Painting processes that ended within a job.")

STEPS = Counter("medley_steps", "Steps made, and frames of walks rendered.")
STEP_S = Counter("medley_step_seconds", "Seconds that those steps took; of pictures painted together, each one's.")
PAINT_S = Counter("medley_paint_seconds", "Seconds that painting took, of jobs that are painted.")
STORE_S = Counter(
    "medley_store_seconds", "Seconds that storing their pictures took; the next job may be painted meanwhile."
)
LOADS = Counter("medley_model_loads", "Times that weights were loaded.")
LOAD_S = Counter("medley_model_load_seconds", "Seconds that loading weights took.")

FRAMES = Counter("medley_frames", "Frames stored.")
UPLOADS = Counter("medley_uploads", "Files stored, frames among them.")
UPLOAD_BYTES = Counter("medley_upload_bytes", "Bytes of them.")

PROCESSES = Gauge("medley_processes", "Painting processes that are there.", multiprocess_mode="livesum")
HOLDING = Gauge("medley_processes_holding", "Of those, how many hold a message.", multiprocess_mode="livesum")
MEMORY = Gauge(
    "medley_device_memory_bytes",
    "Memory of the device that the painting processes hold; of a CPU, of all that the processes hold.",
    ["device"],
    multiprocess_mode="livesum",
)

"""Run every benchmark: ``python -m benchmarks``."""

from benchmarks import (
    accuracy,
    bulk,
    history,
    idle,
    ingest,
    line,
    queue,
    serving,
    tensors,
    training,
)

for benchmark in (
    idle,
    line,
    serving,
    bulk,
    ingest,
    history,
    queue,
    tensors,
    training,
    accuracy,
):
    benchmark.main()

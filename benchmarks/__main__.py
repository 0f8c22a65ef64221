"""Run every benchmark: ``python -m benchmarks``."""

from benchmarks import idle, ingest, line, tensors

for benchmark in (idle, line, ingest, tensors):
    benchmark.main()

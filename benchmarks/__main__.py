"""Run every benchmark: ``python -m benchmarks``."""

from benchmarks import accuracy, idle, ingest, line, tensors, training

for benchmark in (idle, line, ingest, tensors, training, accuracy):
    benchmark.main()

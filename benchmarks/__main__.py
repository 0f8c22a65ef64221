"""Run every benchmark: ``python -m benchmarks``."""

from benchmarks import accuracy, history, idle, ingest, line, queue, tensors, training

for benchmark in (idle, line, ingest, history, queue, tensors, training, accuracy):
    benchmark.main()

"""Run every benchmark: ``python -m benchmarks``."""

from benchmarks import idle, line

for benchmark in (idle, line):
    benchmark.main()

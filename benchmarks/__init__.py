"""Measurements as ratios in one run; ``make bench``. Nothing here is asserted by the tests.

A benchmark is a module with a function ``run(scale)``, which prints what it measured.
"""

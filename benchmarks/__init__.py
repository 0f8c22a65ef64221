"""Measurements as ratios in one run; ``make bench``. Nothing here is asserted by the tests."""

"""Hypothesis settings for the unit tests: the same examples each run, and no clock."""

from hypothesis import settings

settings.register_profile(
    "unit", max_examples=30, deadline=None, derandomize=True, database=None, print_blob=True
)
settings.load_profile("unit")

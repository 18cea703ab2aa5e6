"""Marks of tests that need what not every system has."""

import pytest

from planners.cost import sees_peaks

needs_memory_peaks = pytest.mark.skipif(
    not sees_peaks(), reason="this system does not tell the peak of a process's memory"
)

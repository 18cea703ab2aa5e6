"""A measurement of memory is that of what it is about."""

import subprocess
import sys

import numpy as np

from benchmarks.harness import peak_resident

GIGABYTE = 2**27  # float64 numbers


def test_a_peak_is_the_process_own_whatever_its_parent_holds() -> None:
    held = np.ones(GIGABYTE)
    program = "from benchmarks.harness import peak_resident; print(peak_resident())"
    child = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert int(child.stdout) < held.nbytes < peak_resident()

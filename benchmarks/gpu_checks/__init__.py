"""The parts of `benchmarks/gpu_check.py`, from what they need to what needs them: sizes; suite,
mini, paper and decision; parts, which lists them; alone, which runs one. And the report."""

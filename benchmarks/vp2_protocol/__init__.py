"""The parts of the planning benchmark `benchmarks/vp2.py`."""

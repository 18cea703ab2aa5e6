"""The parts of the planning benchmark `benchmarks/vp2.py`, from what they need to what needs them:
records, planning, methods, run; and results, page of finished episodes."""

"""The parts of the planning benchmark `benchmarks/vp2.py`, from what they need to what needs them:
records, planning, codes, proposals, comparison, results, methods, run; and legend, page of
finished episodes."""

"""The parts of the planning benchmark `benchmarks/vp2.py`, from what they need to what needs them:
records, dynamics, agents, episodes and methods, run; and results, page of finished episodes."""

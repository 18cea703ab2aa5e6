"""The parts of the planning benchmark `benchmarks/vp2.py`, from what they need to what needs them:
records, decisions, dynamics, screening, agents, codes, proposals, episodes; comparison, results;
named_models, named_planners, classifiers, methods, run; and legend, page of finished episodes."""

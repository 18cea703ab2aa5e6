"""The parts of benchmarks/policies.py.

`contestants`: who acts. `playing`, `imagining`: episodes in the twin and in dreams. `records`: on
disk. `judging`: all of a run. `agreement`: what dreams' verdicts are worth. `report`: what is shown.
"""

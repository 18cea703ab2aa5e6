"""The parts of benchmarks/policies.py.

`contestants`: who acts. `playing`, `imagining`: episodes in the twin and in dreams. `records`: what
is kept of them. `judging`: a whole run. `agreement`: what dreams' verdicts are worth. `report`:
what is shown.
"""

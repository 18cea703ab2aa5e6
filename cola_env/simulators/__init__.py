"""The real simulators behind the dreams: same spaces, same options, true physics.

`simulator_env.py` is what they share, `loading.py` finds the one of a world, `rendering.py` is how
they are drawn, `pool.py` many of them in processes; `robodesk/` and `libero/` are shipped, and
`gymnasium_simulator.py` makes one of any Gymnasium environment. May import: scoring, worlds,
inputs, rollout, processes.
"""

"""Planning problems: `goal_set.py` is our own, `vp2_goals.py` VP2's files, `loading.py` finds both.

May import: simulators (VP2's states are RoboDesk's), worlds, inputs, files.
"""

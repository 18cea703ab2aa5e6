"""RoboDesk: its environment, the mended simulation, its arm's kinematics, camera and VP2's states.

May import: what `cola_env.simulators` may, and its shared modules.
"""

"""LIBERO: its environment, a scene and its control step, its camera, and the package itself.

May import: what `cola_env.simulators` may, and its shared modules.
"""

"""The paper's model on Open-Sora's published weights.

May import: the rest of models but `world_model.py` and `loading.py`, and checkpoints.
"""

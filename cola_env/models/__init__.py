"""The world model, its latent actions and its autoencoders, and what loads published weights.

`world_model.py` is the one class that everything else uses; `sampler.py` and `past.py` are how it
imagines. Of cola_env these files import errors, inputs, from_diffusers and, to find published
weights, checkpoints.
"""

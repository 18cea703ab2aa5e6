"""The latent action model: inverse dynamics, codebook, adapter, and a forward dynamics model.

May import: models.transformer.
"""

"""Frames to latents and back: the mini model's autoencoder, and Open-Sora's VAE.

May import: diffusers, through `from_diffusers.py` where that brings torchvision along.
"""

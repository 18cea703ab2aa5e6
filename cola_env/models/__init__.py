"""The world model, its latent actions and its autoencoders, and what loads published weights.

`world_model.py` is the one class that everything else uses, `rectified_flow.py` what it learns,
`sampler.py` how it imagines and `dream_state.py` what it remembers then, `stdit.py` on
`transformer.py` its network, `components.py` what it is made of, `loading.py` how it is found.
`visual_policy.py` is a policy, and `image_trunk.py` what it shares with the success classifiers.
May import: checkpoints, inputs and what is below them.
"""

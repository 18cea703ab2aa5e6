"""What a trained model is judged by, on held-out clips.

`controllability`: what actions are worth to it, and what latent ones hold; `rollout_quality`: how
good its imagined videos are, by `video_metrics`; `steering`: what single latent actions do;
`wrong_codes`: what wrong ones cost; `latent_drift`: how far they have moved in training.

May import: cola_env and, of cola_train, `data`.
"""

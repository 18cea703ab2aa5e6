"""What frames are worth: rewards, success classifiers of ours and VP2's, ensembles of them, LPIPS.

May import: models.precision, checkpoints, worlds, inputs, files.
"""

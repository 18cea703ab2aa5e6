"""What frames are worth: rewards, success classifiers of ours and VP2's, ensembles of them, LPIPS
and PSNR, and how far imagined ones can be trusted. May import: models and what is below them.
"""

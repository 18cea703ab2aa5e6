"""Data, training and evaluation of the models that `cola_env` runs."""

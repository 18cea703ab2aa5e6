"""Measurements that were made once, for docs/results; a wheel leaves them out. They may import all
packages, and nothing but tests imports them."""

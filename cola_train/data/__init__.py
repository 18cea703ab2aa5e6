"""Datasets on disk: reading, writing and the videos inside."""

"""Scripts a user runs; see README.md."""

"""What learns or plans in the dream by libraries of others."""

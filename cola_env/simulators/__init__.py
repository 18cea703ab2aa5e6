"""The real simulators behind the dream environments: same spaces, same options, true physics."""

"""The shipped recipes, one flat, complete TOML per published result and per synthetic run."""

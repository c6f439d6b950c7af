"""A run's settings: their schema, reading them from files and overrides, and validation."""

"""Extrapolation evaluation: accuracy by length, and what follows from its curves."""

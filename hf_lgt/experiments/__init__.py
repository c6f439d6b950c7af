"""Experiments: arms, a grid of settings and seeds; planned, run anywhere, collected, reported."""

"""Corpora on disk: planned, drawn, written with a card and a fingerprint, as rows or as tasks of lm-eval."""

"""Models: built from scratch or opened from a checkpoint, adapters, attention, the forward pass."""

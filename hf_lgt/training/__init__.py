"""The training loop, of one run or of several stacked runs."""

"""Many runs from one file: a grid of settings, arms and seeds; planned, run anywhere, collected."""

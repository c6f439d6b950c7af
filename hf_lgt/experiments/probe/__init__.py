"""How far a checkpoint extrapolates and what would teach it to: a fixed battery of short trainings."""

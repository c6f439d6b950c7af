"""An experiment's runs as jobs of Slurm."""

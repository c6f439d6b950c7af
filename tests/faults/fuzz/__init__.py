"""Hostile input through the real recipes: configs, datasets, and folders with damaged files."""

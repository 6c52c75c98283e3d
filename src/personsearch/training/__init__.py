"""Recipes, data loading, stages, the training loop and checkpoints."""

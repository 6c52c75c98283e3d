"""Draws the synthetic benchmark."""

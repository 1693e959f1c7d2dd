"""Density clustering, and assignment from arrays."""

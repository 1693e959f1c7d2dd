"""Profiles of clusters and segments."""

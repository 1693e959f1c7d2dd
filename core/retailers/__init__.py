"""Retailers: shops segmented by how they sell."""

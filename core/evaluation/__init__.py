"""How far a segmentation can be trusted."""

"""What is computed of each shop, and how it is scaled."""

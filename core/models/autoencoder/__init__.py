"""The autoencoder: architectures, objectives, training, and its network in NumPy."""

"""The autoencoder and its seeding."""

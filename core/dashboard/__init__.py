"""The dashboard: pages over the store, drawn by the server, for whoever has a key."""

"""The HTTP API over the store of customer profiles."""

"""Customers over several channels: features, rule segments and micro-segments."""

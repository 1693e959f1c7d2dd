"""Grocery baskets: readiness, features, a clustering study and rule segments."""

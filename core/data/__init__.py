"""Sources, checks, eligibility and the built-in generator."""

"""Conditions over features: checked, explained, learnt."""

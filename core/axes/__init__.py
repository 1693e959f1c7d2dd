"""Customers on behavioural axes: learnt, named, placed, written and kept."""

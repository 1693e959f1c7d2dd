"""Stable Segments: retail segments that mean something and keep their identity."""

"""Patterns and structures in files, under their contracts."""

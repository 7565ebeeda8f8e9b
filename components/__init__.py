"""The stages: one folder a container."""

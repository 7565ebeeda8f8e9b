"""The collect_structures stage."""

"""Crystals, radiation, lines, flaws: the physics of a powder pattern."""

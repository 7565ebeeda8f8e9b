"""A local page: pattern files dropped in, the model's answer to look at, and to take away."""

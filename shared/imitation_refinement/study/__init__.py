"""Finished runs of one experiment, a seed each, read together: the paper's tables, and what was reproduced."""

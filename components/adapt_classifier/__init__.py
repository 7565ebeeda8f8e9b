"""The adapt_classifier stage."""

"""The pretrain_classifier stage."""

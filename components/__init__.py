"""The pipeline's stages, one folder each."""

import atexit
import gc

# A stage imports much and keeps it: to look for garbage meanwhile, and once more as it ends, takes two seconds of each.
gc.set_threshold(50_000, 20, 20)
atexit.register(gc.freeze)

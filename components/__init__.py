"""The pipeline's stages, one folder each."""

import atexit
import gc

# A stage imports much and keeps it to its end. To look for garbage in it meanwhile, and once more as the process ends,
# takes two seconds of each; `Stage.execute` has the collector look at what comes after the imports.
gc.set_threshold(50_000, 20, 20)
atexit.register(gc.freeze)

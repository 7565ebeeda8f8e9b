"""The pipeline's stages, one folder each."""

from imitation_refinement.running import garbage

garbage.while_importing()

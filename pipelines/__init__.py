"""The DAGs that wire the components, their profiles, and how they run."""

"""What a pattern is of: search-match in a library of lines, and what it says of the crystal system."""

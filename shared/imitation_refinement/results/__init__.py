"""What was measured, in numbers, words and pictures."""

"""I-RAVEN: relational puzzles of nine panels, made here or by the original generator."""

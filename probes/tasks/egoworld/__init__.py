"""EgoWorld: a small world, its clips in EgoSchema's layout, and the pair trained on it."""

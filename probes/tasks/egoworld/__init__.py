"""EgoWorld: a small world, its clips in EgoSchema's layout, the pair trained in it."""

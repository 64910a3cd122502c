"""lmms-eval's tasks, read into the items of this harness."""

"""lmms-eval's tasks in this harness, and what this harness's own tasks share there."""

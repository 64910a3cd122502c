"""Tasks: media and annotations become items. Tasks never see models."""

"""The embedded pair: a tiny image member, its video twin and a control, trained by the project."""

"""The embedded pair, trained by the project: tiny image and video members, and a control."""

"""Checkpoints in the file layout that repositories of the hub really have.

Real vocabularies, special tokens, chat templates, shards, old names of weights and configurations;
random weights, shrunk in width and depth alone. Facts are from transformers' conversion scripts,
printed configurations and public issues; the hub's own files were not seen.
"""

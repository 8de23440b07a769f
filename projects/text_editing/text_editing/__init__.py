"""Editing videos by a text, with CLIP."""

"""Editing videos by text, with CLIP."""

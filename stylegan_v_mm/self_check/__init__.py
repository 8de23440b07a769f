"""Checks of an install and of this machine, and of the networks' numbers."""

"""Conversion of data sets: videos are read, cut, resized and written."""

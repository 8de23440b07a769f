"""Data sets made of others: videos are read, cut, resized and written."""

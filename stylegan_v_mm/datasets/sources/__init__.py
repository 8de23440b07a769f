"""Sources of videos: video files, animated images, folders of frames.

:func:`find_videos` lists the videos under a path; each is a source with

* ``name``: path relative to the data root, with forward slashes,
* ``len(source)``: number of frames that can be decoded,
* ``read(frame_inds)``: those frames, [T, H, W, 3], uint8, RGB,
* ``problem``: what is wrong with it, '' if nothing was found,
* ``signature()``: a text that changes with its content.
"""

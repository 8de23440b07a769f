"""Reading single frames of video files, and writing video files.

Reading takes two steps. :func:`index_video` lists the frames of a file, as a
rule without decoding more than its first and last group of pictures;
:func:`decode_frames` then decodes any of them, starting at the key frame
before each, and :func:`iter_frames` a long stretch of them. Frame i is always
the i-th frame that decoding the whole file from its start would give.

A frame is damaged if the decoder flags it, or anything that was decoded
between the key frame before it and itself: prediction carries the damage on
to the next key frame. Damaged frames keep their number and are never
returned. Only :func:`index_video` with ``thorough`` knows all of them; the
others are found when they are read.

Opening a file takes as long as decoding some frames: those that were read
last stay open, for each thread its own.
"""

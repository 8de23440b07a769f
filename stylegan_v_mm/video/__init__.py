"""Read single frames of video files, and write video files.

Reading takes two steps. :func:`index_video` lists the frames of a file,
usually by decoding only its first and last group of pictures. Then
:func:`decode_frames` decodes any of the frames, starting at the key frame
before each, and :func:`iter_frames` decodes a long stretch of them. Frame i is
always the i-th frame of the file when it is decoded from its start.

A frame is damaged if the decoder flags the frame or anything that was decoded
since the key frame before it, because prediction propagates damage up to the
next key frame. Damaged frames keep their index and are never returned. Only
:func:`index_video` with ``thorough`` finds all of them; otherwise, they are
found when they are read.

Opening a file takes as long as decoding several frames, so each thread keeps
the files open that it read last.
"""

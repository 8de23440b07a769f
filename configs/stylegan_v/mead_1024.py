# MEAD, front views, at 1024 px, 77 classes:
# https://wywu.github.io/projects/MEAD/MEAD.html
# The data are data/mead/<class>/<video>/<frame>.jpg, made from
# <class>/<video>.mp4 by
# python tools/dataset_converters/videos_to_frames.py mead_front data/mead \
#     --resolution 1024 --format jpg
# These are the published settings; the cost was not published. 38.4 + 28.9
# million parameters.
_base_ = ['./ucf101.py']
data_root = 'data/mead'
labels = 'folder'
num_classes = 77
resolution = 1024
num_frames = 2
batch_size = 16
lr = 0.002
fps = 30

# MEAD, front views, at 1024 px, 77 classes:
# https://wywu.github.io/projects/MEAD/MEAD.html
# data/mead/<class>/<video>/<frame>.jpg, from <class>/<video>.mp4 by
# python tools/dataset_converters/videos_to_frames.py mead_front data/mead \
#     --resolution 1024 --format jpg
# Published with these settings, at a cost that is not; 38.4 + 28.9 million
# parameters.
_base_ = ['./ucf101.py']
data_root = 'data/mead'
labels = 'folder'
num_classes = 77
resolution = 1024
num_frames = 2
batch_size = 16
lr = 0.002
fps = 30

# MEAD, front views, at 1024 px, 77 classes:
# https://wywu.github.io/projects/MEAD/MEAD.html
# data/mead/<class>/<video>.mp4. The published run has clips of two frames.
_base_ = ['./ucf101.py']
data_root = 'data/mead'
labels = 'folder'
num_classes = 77
resolution = 1024
num_frames = 2
batch_size = 16
lr = 0.002
fps = 30

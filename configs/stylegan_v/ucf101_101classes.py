# UCF-101 at 256 px with labels of the 101 classes. The data are those of
# ucf101.py, data/ucf101/<class>/<video>.avi
# There is no published run. As without classes: 4 V100, about 2 days.
# 33.0 + 25.4 million parameters.
_base_ = ['./ucf101.py']
labels = 'folder'
num_classes = 101

# UCF-101 at 256 px with a label for each of the 101 classes; data as for
# ucf101.py: data/ucf101/<class>/<video>.avi
# No published run; as the unconditional one: 4 V100, about 2 days.
# 33.0 + 25.4 million parameters.
_base_ = ['./ucf101.py']
labels = 'folder'
num_classes = 101

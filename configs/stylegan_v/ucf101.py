# UCF-101 at 256 px, unconditional: https://www.crcv.ucf.edu/data/UCF101.php
# data/ucf101/<class>/<video>.avi, as it unpacks. For the 101 classes:
# labels='folder', num_classes=101.
_base_ = [
    '../_base_/models/stylegan_v.py',
    '../_base_/datasets/videos.py',
    '../_base_/schedules/stylegan_v.py',
    '../_base_/default_runtime.py',
]
data_root = 'data/ucf101'

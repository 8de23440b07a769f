# UCF-101 at 256 px, unconditional: https://www.crcv.ucf.edu/data/UCF101.php
# The data are data/ucf101/<class>/<video>.avi, as unpacked, or frames, which
# load faster:
# python tools/dataset_converters/videos_to_frames.py UCF-101 data/ucf101.zip \
#     --resolution 256
# Published: 4 V100, about 2 days. 32.1 + 25.3 million parameters.
_base_ = [
    '../_base_/models/stylegan_v.py',
    '../_base_/datasets/videos.py',
    '../_base_/schedules/stylegan_v.py',
    '../_base_/default_runtime.py',
]
data_root = 'data/ucf101'

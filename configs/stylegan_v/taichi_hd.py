# TaiChi-HD at 256 px: https://github.com/AliaksandrSiarohin/first-order-model
# (data/taichi-loading downloads it). The data are its training videos,
# data/taichi/<video>.mp4. They decode faster after
# python tools/dataset_converters/reencode.py taichi/train data/taichi
# There is no published run. As for UCF-101: 4 V100, about 2 days. 32.1 + 25.3
# million parameters.
_base_ = ['./ucf101.py']
data_root = 'data/taichi'
fps = 30

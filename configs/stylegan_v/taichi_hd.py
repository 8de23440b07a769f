# TaiChi-HD at 256 px: https://github.com/AliaksandrSiarohin/first-order-model
# (data/taichi-loading downloads it). data/taichi/<video>.mp4 are its training
# videos. They decode faster after
# python tools/dataset_converters/reencode.py taichi/train data/taichi
# No published run; as of UCF-101: 4 V100, about 2 days. 32.1 + 25.3 million
# parameters.
_base_ = ['./ucf101.py']
data_root = 'data/taichi'
fps = 30

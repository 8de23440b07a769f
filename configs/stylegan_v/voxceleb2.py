# VoxCeleb2 at 256 px: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html
# The data are data/voxceleb2/<speaker>/<video>/<clip>.mp4, the unpacked dev
# part with a million clips of 224 px. One clip of each video is enough; clips
# decode faster after
# python tools/dataset_converters/reencode.py one_clip_each data/voxceleb2
# There is no published run. As for UCF-101: 4 V100, about 2 days. 32.1 + 25.3
# million parameters.
_base_ = ['./ucf101.py']
data_root = 'data/voxceleb2'

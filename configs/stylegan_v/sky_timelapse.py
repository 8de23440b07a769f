# SkyTimelapse at 256 px: https://github.com/weixiong-ur/mdgan
# The data are data/sky_timelapse/<video>/<clip>/<frame>.jpg, the unpacked
# sky_train. A zip is smaller and faster:
# python tools/dataset_converters/videos_to_frames.py sky_train \
#     data/sky_timelapse.zip --resolution 256
# Published: 4 V100, about 2 days. 32.1 + 25.3 million parameters.
_base_ = ['./ucf101.py']
data_root = 'data/sky_timelapse'
motion_period = 256  # clouds are slow

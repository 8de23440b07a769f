# SkyTimelapse at 256 px: https://github.com/weixiong-ur/mdgan
# data/sky_timelapse/<clip>/<frame>.jpg, or a zip of that. Clouds are slow.
_base_ = ['./ucf101.py']
data_root = 'data/sky_timelapse'
motion_period = 256

# MoCoGAN+SG2 on SkyTimelapse at 256 px.
_base_ = ['./mocogan_sg2_ucf101.py']
data_root = 'data/sky_timelapse'

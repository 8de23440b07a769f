# LSUN outdoor churches, images at 256 px: https://github.com/fyu/lsun
# The data are 126,227 images in data/lsun/church_outdoor_train_lmdb/data.mdb,
# which needs `pip install lmdb`, or in a folder or a zip. Without motion, the
# networks are StyleGAN2's; model.generator.use_noise adds its noise.
# There is no published run. It has as many frames as the runs on videos, which
# take 2 days on 4 V100. 23.2 + 24.0 million parameters.
_base_ = [
    '../_base_/models/stylegan_v.py',
    '../_base_/datasets/videos.py',
    '../_base_/schedules/stylegan_v.py',
    '../_base_/default_runtime.py',
]
data_root = 'data/lsun/church_outdoor_train_lmdb'
images = True
num_frames = 1
model = dict(
    generator=dict(motion_v_dim=0),
    discriminator=dict(num_frames_div_factor=1),
)
preview_frames = 1
# FID of as many generated as real images; docs/metrics.md describes its file.
num_test_videos = 50000
num_test_frames = 1
num_test_images = '= num_test_videos'
image_detector = '= detector'
test_evaluator = ['= fid50k_full']
detector = dict(
    type='InceptionTorchScript', path='checkpoints/inception-2015-12-05.pt'
)

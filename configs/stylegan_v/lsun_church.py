# LSUN outdoor churches at 256 px, images: https://github.com/fyu/lsun
# data/lsun/church_outdoor_train_lmdb/data.mdb, as it unpacks: 126,227 images.
# Reading it needs `pip install lmdb`; a folder or a zip of images does not.
# Without motion, StyleGAN2's networks; its noise: model.generator.use_noise.
# No published run; as many frames as the videos' 2 days on 4 V100.
# 23.2 + 24.0 million parameters.
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
# FID of as many generated as real images; the file: docs/metrics.md.
num_test_videos = 50000
num_test_frames = 1
num_test_images = '= num_test_videos'
image_detector = '= detector'
test_evaluator = ['= fid50k_full']
detector = dict(
    type='InceptionTorchScript', path='checkpoints/inception-2015-12-05.pt'
)

# A toy that trains in minutes on two CPU cores: coloured shapes that move.
_base_ = [
    '../_base_/models/stylegan_v.py',
    '../_base_/datasets/videos.py',
    '../_base_/schedules/stylegan_v.py',
    '../_base_/default_runtime.py',
]
data_root = 'data/moving_shapes'
resolution = 32
batch_size = 16
max_iters = 700
num_workers = 1
log_interval = 25
preview_interval = checkpoint_interval = 350
# Small networks learn more in minutes; without half precision, no clamp is
# needed. Few videos call for a strong penalty, few clips for a fast average.
model = dict(
    generator=dict(
        z_dim=64, w_dim=64, motion_z_dim=64, motion_v_dim=64, time_enc_dim=32,
        channel_base=1024, channel_max=64, conv_clamp=None),
    discriminator=dict(channel_base=1024, channel_max=64, conv_clamp=None),
    r1_gamma=20,
    ema_kimg=1)  # fmt: skip
optim_wrapper = dict(
    generator=dict(optimizer=dict(lr=0.01)),
    discriminator=dict(optimizer=dict(lr=0.005)))  # fmt: skip
num_test_videos = 128
detector = dict(_delete_=True, type='RandomI3D')

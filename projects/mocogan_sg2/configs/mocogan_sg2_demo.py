# A toy model that trains on a CPU, with the moving shapes of `make demo`.
_base_ = ['./mocogan_sg2_ucf101.py']
data_root = 'data/moving_shapes'
resolution = 32
batch_size = 4
lr = 0.006
max_iters = 800
num_workers = 0
log_interval = 50
preview_interval = checkpoint_interval = 400
model = dict(
    generator=dict(
        z_dim=64, w_dim=64, motion_z_dim=64, motion_v_dim=64,
        channel_base=1024, channel_max=64, conv_clamp=None),
    discriminator=dict(
        image_discr=dict(channel_base=1024, channel_max=64, conv_clamp=None),
        video_channels=16),
    augment=None,
    r1_gamma=5,
    ema_kimg=0.5)  # fmt: skip
num_test_videos = 128
detector = dict(type='RandomI3D')  # FVD-random: only comparable with itself

# A toy that trains in minutes on two CPU cores: coloured shapes that move.
_base_ = ['./ucf101.py']
data_root = 'data/moving_shapes'
resolution = 32
batch_size = 8
lr = 0.006
max_iters = 1600
num_workers = 0  # decoding these takes less than sharing the cores
log_interval = 50
preview_interval = checkpoint_interval = 800
# Small networks learn more in minutes; without half precision, no clamp is
# needed. The run is too short to overfit: a strong penalty does, instead of
# augmentation. Few clips call for a fast average.
model = dict(
    generator=dict(
        z_dim=64, w_dim=64, motion_z_dim=64, motion_v_dim=64, time_enc_dim=32,
        channel_base=1024, channel_max=64, conv_clamp=None),
    discriminator=dict(channel_base=1024, channel_max=64, conv_clamp=None),
    augment=None,
    r1_gamma=5,
    ema_kimg=1)  # fmt: skip
num_test_videos = 128
detector = dict(type='RandomI3D')  # FVD-random: compares with itself alone
# FVD hardly notices videos that stand still: measure how they move, too.
test_evaluator = ['= fvd2048_16f', '= motion_16f']

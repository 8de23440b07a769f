# A toy model of moving coloured shapes, which trains in minutes on two CPU
# cores.
_base_ = ['./ucf101.py']
data_root = 'data/moving_shapes'
resolution = 32
batch_size = 8
lr = 0.006
max_iters = 1600
num_workers = 0  # decoding takes less time than sharing the cores would
log_interval = 50
preview_interval = checkpoint_interval = 800
num_fp16_res = 0  # bfloat16 gave no better videos in as many iterations
# Small networks learn more in minutes; without half precision, they need no
# clamp. The run is too short to overfit, so that a strong penalty suffices
# instead of augmentation. With few clips, the average must react fast.
model = dict(
    generator=dict(
        z_dim=64, w_dim=64, motion_z_dim=64, motion_v_dim=64, time_enc_dim=32,
        channel_base=1024, channel_max=64, conv_clamp=None),
    discriminator=dict(channel_base=1024, channel_max=64, conv_clamp=None),
    augment=None,
    r1_gamma=5,
    ema_kimg=1)  # fmt: skip
num_test_videos = 128
detector = dict(type='RandomI3D')  # FVD-random: only comparable with itself
# FVD hardly sees whether videos stand still, so measure their motion, too.
test_evaluator = ['= fvd2048_16f', '= motion_16f']

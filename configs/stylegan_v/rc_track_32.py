# Like rc_track_64.py, but at 32 px: it learns to drive in 20 minutes on a CPU
# core. 0.4 + 0.6 million parameters.
_base_ = ['./rc_track_64.py']
resolution = 32
lr = 0.006  # small networks tolerate it
total_kimg = 72  # 3000 iterations
preview_interval = checkpoint_interval = 1000
# The networks are half as wide, and in float32, which needs no clamp. The run
# is shorter, so average and augmentation react faster.
num_fp16_res = 0
model = dict(
    generator=dict(
        z_dim=64, w_dim=64, motion_z_dim=64, motion_v_dim=64, time_enc_dim=32,
        channel_base=1024, channel_max=64, conv_clamp=None),
    discriminator=dict(channel_base=1024, channel_max=64, conv_clamp=None),
    augment=dict(ada_kimg=20),
    r1_gamma=10,
    ema_kimg=1)  # fmt: skip

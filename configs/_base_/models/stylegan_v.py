# The published model. A string that starts with '=' is computed from the
# variables once all configs and options are merged.
resolution = 256
num_classes = 0  # 0: unconditional
num_frames = 3  # frames in a training clip
max_num_frames = 1024  # of longer videos, random windows of this length
motion_period = 16  # frames: how slow the motion is
num_fp16_res = 4  # resolutions in half precision, from the highest

model = dict(
    type='StyleGANV',
    data_preprocessor=dict(type='BaseDataPreprocessor', non_blocking=True),
    generator=dict(
        type='StyleGANVGenerator',
        resolution='= resolution',
        c_dim='= num_classes',
        channel_base='= 16384 if resolution < 512 else 32768',
        num_fp16_res='= num_fp16_res',
        motion_z_distance='= motion_period',
        min_period_len='= motion_period',
        max_period_len='= max_num_frames',
    ),
    discriminator=dict(
        type='StyleGANVDiscriminator',
        resolution='= resolution',
        c_dim='= num_classes',
        num_frames='= num_frames',
        channel_base='= 16384 if resolution < 512 else 32768',
        num_fp16_res='= num_fp16_res',
        concat_res='= min(16, resolution // 2)',
        mbstd_group_size='= min(batch_size // num_processes'
        ' // accumulative_counts, 4)',
        max_num_frames='= max_num_frames',
    ),
    augment=dict(type='VideoAugment', pipeline='bgc', ada_kimg=100),
    r1_gamma='= 0.0002 * resolution**2 / batch_size',
    d_reg_interval=16,
    ema_kimg='= batch_size * 10 / 32',
    accumulative_counts='= accumulative_counts',
)

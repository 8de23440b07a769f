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
    # For both networks, unless their own dicts say otherwise.
    resolution='= resolution',
    num_classes='= num_classes',
    num_frames='= num_frames',
    max_num_frames='= max_num_frames',
    motion_period='= motion_period',
    num_fp16_res='= num_fp16_res',
    generator=dict(type='StyleGANVGenerator'),
    discriminator=dict(type='StyleGANVDiscriminator'),
    augment=dict(type='VideoAugment', pipeline='bgc', ada_kimg=100),
    data_preprocessor=dict(type='BaseDataPreprocessor', non_blocking=True),
    r1_gamma='= 0.0002 * resolution**2 / batch_size',
    d_reg_interval=16,
    ema_kimg='= batch_size * 10 / 32',
    accumulative_counts='= accumulative_counts',
)

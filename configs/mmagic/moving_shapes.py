# Moving shapes in mmagic's scope, for mmagic's own tools/train.py and test.py.
# data/moving_shapes/<video>.mp4, made by
# python tools/dataset_converters/moving_shapes.py data/moving_shapes \
#     --num-videos 400 --resolution 32
# It measures mmagic's FID of frames. mmagic's hook and scheduler halve the
# learning rates when that has not fallen four times in a row.
default_scope = 'mmagic'
data_root = 'data/moving_shapes'
resolution = 32
batch_size = 8  # clips a process
max_iters = 1600
val_interval = 400
num_test_videos = 128
inception = None  # a path; None: mmagic downloads it

# The model reduces its gradients itself, for any number of processes.
model_wrapper_cfg = dict(type='stylegan_v_mm.EqualReplicas')
model = dict(
    type='stylegan_v_mm.StyleGANV',
    resolution=resolution,
    data_preprocessor=dict(type='BaseDataPreprocessor'),
    generator=dict(
        type='stylegan_v_mm.StyleGANVGenerator',
        z_dim=64,
        w_dim=64,
        motion_z_dim=64,
        motion_v_dim=64,
        time_enc_dim=32,
        channel_base=1024,
        channel_max=64,
        conv_clamp=None,
    ),
    discriminator=dict(
        type='stylegan_v_mm.StyleGANVDiscriminator',
        channel_base=1024,
        channel_max=64,
        conv_clamp=None,
        concat_res=8,
    ),
    r1_gamma=5,
    ema_kimg=1,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(type='stylegan_v_mm.ClipSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='stylegan_v_mm.VideoDataset',
        data_root=data_root,
        pipeline=[
            dict(type='stylegan_v_mm.SampleClip', num_frames=3, num_gen=2),
            dict(type='stylegan_v_mm.LoadClip'),
            dict(type='stylegan_v_mm.ResizeCrop', resolution=resolution),
            dict(type='stylegan_v_mm.FlipClip'),
            dict(type='stylegan_v_mm.PackClip'),
        ],
    ),
)
train_cfg = dict(
    type='stylegan_v_mm.ClipTrainLoop',
    max_iters=max_iters,
    val_interval=val_interval,
)
optimizer = dict(type='Adam', lr=0.005, betas=(0.0, 0.99), eps=1e-8)
optim_wrapper = dict(
    constructor='stylegan_v_mm.GANOptimWrapperConstructor',
    generator=dict(optimizer=optimizer),
    discriminator=dict(optimizer=optimizer),
)
param_scheduler = dict(type='ReduceLR', factor=0.5, patience=3, by_epoch=False)

val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='stylegan_v_mm.SeedDataset',
        num_videos=num_test_videos,
        num_frames=16,
    ),
)
real = dict(
    num_real=num_test_videos,
    resolution=resolution,
    real_data=dict(data_root=data_root),
)
val_evaluator = [
    dict(
        type='stylegan_v_mm.MMagicFrames',
        num_frames=16,
        metric=dict(type='FrechetInceptionDistance', inception_path=inception),
        **real,
    ),
    dict(type='stylegan_v_mm.MotionReport', num_frames=16, **real),
]
val_cfg = dict(type='ValLoop')
test_dataloader, test_evaluator = val_dataloader, val_evaluator
test_cfg = dict(type='TestLoop')

default_hooks = dict(
    # mmagic's own of that name needs mmagic's own loops.
    timer=dict(type='mmengine.IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(
        type='ReduceLRSchedulerHook', val_metric='FID/fid', by_epoch=False
    ),
    # The scheduler's state is more than plain data: it could not be read.
    checkpoint=dict(
        type='stylegan_v_mm.SafeCheckpointHook',
        interval=val_interval,
        save_param_scheduler=False,
    ),
)
custom_hooks = [
    dict(type='stylegan_v_mm.CheckDataHook'),
    dict(type='stylegan_v_mm.DivergenceHook'),
    dict(
        type='stylegan_v_mm.VideoPreviewHook',
        interval=val_interval,
        num_videos=16,
    ),
]
log_processor = dict(type='mmengine.LogProcessor', by_epoch=False)

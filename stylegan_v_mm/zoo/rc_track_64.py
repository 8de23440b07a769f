accumulative_counts = 1
batch_size = 8
cache_statistics = True
checkpoint_interval = 834
custom_hooks = [
    dict(type='TrainingSpeedHook'),
    dict(type='DivergenceHook'),
    dict(
        fps='= fps',
        interval='= preview_interval',
        num_frames='= preview_frames',
        num_videos=16,
        type='VideoPreviewHook',
    ),
    dict(schedules='= schedules', type='ScheduleHook'),
]
data_root = 'data/rc_track/train'
default_hooks = dict(
    check_data=dict(type='CheckDataHook'),
    checkpoint=dict(
        interval='= checkpoint_interval',
        max_keep_ckpts=-1,
        save_best='= save_best',
        type='SafeCheckpointHook',
    ),
    logger=dict(
        interval='= log_interval', log_metric_by_epoch=False, type='LoggerHook'
    ),
    runtime_info=dict(type='DeferredLogsHook'),
    timer=dict(type='SteadyTimerHook'),
)
default_scope = 'stylegan_v_mm'
detector = dict(type='I3D')
dist_timeout = 1800
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl', timeout='= dist_timeout'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    tf32='= tf32',
)
flip_prob = 0.5
flow2048_16f = dict(
    cache='= cache_statistics',
    num_fake='= num_test_videos',
    num_frames='= num_clip_frames',
    num_real='= num_test_videos',
    num_workers='= num_workers',
    published='= published_protocol',
    real_data='= real_data',
    resolution='= resolution',
    type='FlowDistance',
)
fps = 20
frames_per_video = '= num_clip_frames'
fvd2048_16f = dict(
    cache='= cache_statistics',
    detector='= detector',
    num_fake='= num_test_videos',
    num_frames='= num_clip_frames',
    num_real='= num_test_videos',
    num_workers='= num_workers',
    published='= published_protocol',
    real_data='= real_data',
    resolution='= resolution',
    type='FrechetVideoDistance',
)
images = False
labels = None
load_from = None
log_interval = 50
log_level = 'INFO'
log_processor = dict(
    by_epoch=False,
    custom_cfg=[
        dict(
            data_src='bad_gradients',
            method_name='max',
            window_size='= log_interval',
        ),
    ],
    mean_pattern='loss|time|grad_norm|logits|signs|frames_per_sec',
    window_size='= log_interval',
)
lr = 0.004
max_dist = 32
max_iters = '= int(total_kimg * 1000 / (batch_size * num_frames))'
max_num_frames = 1024
model = dict(
    accumulative_counts='= accumulative_counts',
    augment=dict(ada_kimg=50, pipeline='bgc', type='VideoAugment'),
    d_reg_interval=16,
    data_preprocessor=dict(non_blocking=True, type='BaseDataPreprocessor'),
    discriminator=dict(
        channel_base=2048,
        channel_max=128,
        type='StyleGANVDiscriminator',
    ),
    ema_kimg=5,
    generator=dict(
        channel_base=2048,
        channel_max=128,
        motion_v_dim=128,
        motion_z_dim=128,
        time_enc_dim=64,
        type='StyleGANVGenerator',
        w_dim=128,
        z_dim=128,
    ),
    max_num_frames='= max_num_frames',
    motion_period='= motion_period',
    num_classes='= num_classes',
    num_fp16_res='= num_fp16_res',
    num_frames='= num_frames',
    r1_gamma=20,
    resolution='= resolution',
    type='StyleGANV',
)
model_wrapper_cfg = dict(type='stylegan_v_mm.EqualReplicas')
motion_16f = dict(
    num_fake='= num_test_videos',
    num_frames='= num_clip_frames',
    num_real='= num_test_videos',
    real_data='= real_data',
    resolution='= resolution',
    type='MotionReport',
)
motion_period = 16
num_classes = 0
num_clip_frames = '= min(16, num_test_frames)'
num_fp16_res = 4
num_frames = 3
num_test_frames = 16
num_test_images = 0
num_test_videos = 512
num_workers = 0
optim_wrapper = dict(
    constructor='GANOptimWrapperConstructor',
    discriminator=dict(
        optimizer=dict(
            betas=(
                0.0,
                0.9905854573074332,
            ),
            eps=1e-08,
            lr='= lr * 16 / 17',
            type='Adam',
        )
    ),
    generator=dict(
        optimizer=dict(
            betas=(
                0.0,
                0.9919919678228657,
            ),
            eps=1e-08,
            lr='= lr * 4 / 5',
            type='Adam',
        )
    ),
)
preview_frames = 64
preview_interval = 834
published_protocol = False
randomness = dict(seed=0)
real_data = dict(
    data_root='= data_root',
    disjoint=True,
    images='= images',
    labels='= labels',
)
resolution = 64
resume = False
runner_type = 'stylegan_v_mm.VideoGANRunner'
save_best = None
schedules: dict = {}
tensorboard = False
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=4,
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        data_root='= data_root',
        extra_frames='= frames_per_video',
        extra_videos='= max((num_test_images + frames_per_video - 1) // frames_per_video - num_test_videos, 0)',
        images='= images',
        labels='= labels',
        num_frames='= num_test_frames',
        num_videos='= num_test_videos',
        type='SeedDataset',
    ),
    num_workers=0,
    sampler=dict(round_up=False, shuffle=False, type='DefaultSampler'),
)
test_evaluator = [
    '= fvd2048_16f',
    '= flow2048_16f',
    '= motion_16f',
]
tf32 = False
total_kimg = 4000
train_cfg = dict(
    max_iters='= max_iters',
    type='ClipTrainLoop',
    val_interval='= val_interval',
)
train_dataloader = dict(
    batch_size='= batch_size // num_processes',
    collate_fn=dict(type='stylegan_v_mm.collate_clips'),
    dataset=dict(
        data_root='= data_root',
        images='= images',
        labels='= labels',
        max_num_frames='= max_num_frames',
        pipeline=[
            dict(
                max_dist='= max_dist',
                num_frames='= num_frames',
                num_gen=2,
                type='SampleClip',
            ),
            dict(type='LoadClip'),
            dict(resolution='= resolution', type='ResizeCrop'),
            dict(prob='= flip_prob', type='FlipClip'),
            dict(type='PackClip'),
        ],
        type='VideoDataset',
    ),
    num_workers='= num_workers',
    sampler=dict(type='ClipSampler'),
)
val_cfg = dict(type='ValLoop')
val_dataloader = '= test_dataloader'
val_evaluator = '= test_evaluator'
val_interval = 0
visualizer = dict(
    tensorboard='= tensorboard',
    type='VideoVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ],
)
work_dir = None

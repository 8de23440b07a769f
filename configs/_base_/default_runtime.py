# What every run shares: logging, checkpoints, previews.
default_scope = 'stylegan_v_mm'
runner_type = 'stylegan_v_mm.VideoGANRunner'
# For mmengine's own runner: the model reduces its gradients itself.
model_wrapper_cfg = dict(type='stylegan_v_mm.EqualReplicas')
work_dir = None
load_from = None
resume = False
log_level = 'INFO'

log_interval = 50  # iterations
preview_interval = 5000
checkpoint_interval = 5000
save_best = None  # 'FVD16': keep the best checkpoint, see val_interval
preview_frames = 64
fps = 25  # of the data: how fast previews and generated videos play
tf32 = False  # True: GPUs may round float32 products, which is faster
tensorboard = False  # True: write its logs; needs the package tensorboard

dist_timeout = 1800  # seconds that a process waits for the others

env_cfg = dict(
    cudnn_benchmark=True,
    tf32='= tf32',
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout='= dist_timeout'),
)
randomness = dict(seed=0)

default_hooks = dict(
    runtime_info=dict(type='DeferredLogsHook'),
    check_data=dict(type='CheckDataHook'),
    timer=dict(type='SteadyTimerHook'),
    logger=dict(
        type='LoggerHook', interval='= log_interval', log_metric_by_epoch=False
    ),
    checkpoint=dict(
        type='SafeCheckpointHook',
        interval='= checkpoint_interval',
        max_keep_ckpts=3,
        save_best='= save_best',
    ),
)
custom_hooks = [
    dict(type='TrainingSpeedHook'),
    dict(type='DivergenceHook'),
    dict(
        type='VideoPreviewHook',
        interval='= preview_interval',
        num_videos=16,
        num_frames='= preview_frames',
        fps='= fps',
    ),
    dict(type='ScheduleHook', schedules='= schedules'),
]
log_processor = dict(
    by_epoch=False,
    window_size='= log_interval',
    # Average these over the window.
    mean_pattern='loss|time|grad_norm|logits|signs|frames_per_sec',
    custom_cfg=[
        dict(
            data_src='bad_gradients',
            method_name='max',
            window_size='= log_interval',
        )
    ],
)
# Backends of numbers and previews; docs/monitoring.md adds Weights & Biases.
visualizer = dict(
    type='VideoVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    tensorboard='= tensorboard',
)

# The published schedule. A kimg is a thousand frames, not clips.
batch_size = 64  # clips, over all processes
accumulative_counts = 1  # parts of a GPU's batch, processed in turn
total_kimg = 25000
lr = 0.0025
schedules = {}  # numbers that change: dict(r1_gamma=[(0, 20), (500, 2)])
max_iters = '= int(total_kimg * 1000 / (batch_size * num_frames))'

# Learning rates and Adam's betas are corrected for the regularisation steps
# every 4 (generator) and 16 (discriminator) iterations. Path length, the
# generator's, is off, but the published runs have its correction.
optim_wrapper = dict(
    constructor='GANOptimWrapperConstructor',
    generator=dict(
        optimizer=dict(
            type='Adam',
            lr='= lr * 4 / 5',
            betas=(0.0, 0.99 ** (4 / 5)),
            eps=1e-8,
        )
    ),
    discriminator=dict(
        optimizer=dict(
            type='Adam',
            lr='= lr * 16 / 17',
            betas=(0.0, 0.99 ** (16 / 17)),
            eps=1e-8,
        )
    ),
)
val_interval = 0  # iterations from one measurement to the next; 0: none
train_cfg = dict(
    type='ClipTrainLoop',
    max_iters='= max_iters',
    val_interval='= val_interval',
)
test_cfg = dict(type='TestLoop')

# Metrics during training are the same as those of tools/test.py.
val_cfg = dict(type='ValLoop')
val_dataloader = '= test_dataloader'
val_evaluator = '= test_evaluator'

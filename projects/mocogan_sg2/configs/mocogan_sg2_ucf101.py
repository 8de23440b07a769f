# MoCoGAN+SG2 on UCF-101 at 256 px, the baseline of the StyleGAN-V paper.
_base_ = ['../../../configs/stylegan_v/ucf101.py']
custom_imports = dict(imports=['projects.mocogan_sg2.mocogan_sg2'])
num_frames = 16  # consecutive frames
max_num_frames = 16
motion_period = 1  # a motion code for each frame
batch_size = 16

model = dict(
    generator=dict(motion_type='lstm', fourier=False, cond_type='concat_w'),
    discriminator=dict(
        _delete_=True,
        type='MoCoGANDiscriminator',
        # A plain StyleGAN2 discriminator, because there is just one frame.
        image_discr=dict(
            type='StyleGANVDiscriminator',
            num_frames=1,
            concat_res=8,
            num_frames_div_factor=1,
        ),
    ),
)
optim_wrapper = dict(
    discriminator=dict(
        paramwise_cfg=dict(custom_keys=dict(video_discr=dict(lr_mult=0.1)))
    )
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(
                type='SampleClip',
                num_frames='= num_frames',
                method='uniform',
                max_gap=1,
                num_gen=2,
            ),
            dict(type='LoadClip'),
            dict(type='ResizeCrop', resolution='= resolution'),
            dict(type='FlipClip', prob=0.5),
            dict(type='PackClip'),
        ],
    )
)

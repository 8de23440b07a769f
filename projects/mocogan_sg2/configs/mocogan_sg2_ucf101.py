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
        num_frames='= num_frames',
        # A plain StyleGAN2 discriminator, because there is just one frame.
        image_discr=dict(
            type='StyleGANVDiscriminator',
            resolution='= resolution',
            num_frames=1,
            c_dim='= num_classes',
            channel_base='= 16384 if resolution < 512 else 32768',
            num_fp16_res='= num_fp16_res',
            concat_res=8,
            num_frames_div_factor=1,
            mbstd_group_size=4,
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

# Half an hour of driving, seen from a small car on an indoor track, at 64 px.
# The data are data/rc_track/train/<clip>.mp4, made from a clone of
# https://github.com/criscola/donkeycar (MIT License) at commit
# ff5a5fab980f8a21f2a1409c00b2a4257f1d0ed1 by
# python tools/dataset_converters/donkey_tubs.py donkeycar data/rc_track \
#     --list configs/_lists/rc_track.csv
# Neither training nor metrics see held_out/. 1000 kimg take 9 hours on a core
# of a CPU that has bfloat16. 1.7 + 1.6 million parameters.
_base_ = ['./ucf101.py']
data_root = 'data/rc_track/train'
resolution = 64
batch_size, lr = 8, 0.004
total_kimg = 4000
num_workers = 0  # decoding takes less time than sharing the cores would
fps = 20
preview_interval = checkpoint_interval = 834  # 20 kimg
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))  # for curves by kimg
# Small networks suit CPUs. A weaker penalty lets the discriminator win. In a
# day of training, augmentation and average must react fast.
model = dict(
    generator=dict(z_dim=128, w_dim=128, motion_z_dim=128, motion_v_dim=128,
                   time_enc_dim=64, channel_base=2048, channel_max=128),
    discriminator=dict(channel_base=2048, channel_max=128),
    augment=dict(ada_kimg=50), r1_gamma=20, ema_kimg=5)  # fmt: skip
real_data = dict(disjoint=True)  # 2069 clips, not one of each of 176 videos
num_test_videos = 512
test_evaluator = ['= fvd2048_16f', '= flow2048_16f', '= motion_16f']

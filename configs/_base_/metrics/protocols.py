# The published metrics by their names. A config lists those to measure:
# test_evaluator = ['= fvd2048_16f', '= fid50k_full']
# All of them use frames of the same generated clips. Metrics of 128 frames
# need num_test_frames = 128, metrics of 50,000 images num_test_images = 50000.
num_test_videos = 2048  # generated videos, and the most real ones
num_test_frames = 16  # frames in each generated video
num_test_images = 0  # generated frames for FID, KID and IS
frames_per_video = '= min(16, num_test_frames)'  # images from each video
published_protocol = False  # True: use the first real videos instead of
# spreading them, and all real frames for FID and KID. The published offsets of
# real clips are not seeded.
cache_statistics = True  # of real clips, in the user's cache folder

# `python tools/get_detectors.py` downloads the weights of these.
detector = dict(type='I3D')
frame_detector = dict(type='VGG16')
# You have to get the files of these yourself, see docs/metrics.md.
image_detector = dict(
    type='InceptionTorchScript', path='checkpoints/inception-2015-12-05.pt'
)
action_detector = dict(type='C3DTorchScript', path='checkpoints/c3d_ucf101.pt')

# Real videos, or the config of a data set by type, see docs/extending.md.
real_data = dict(data_root='= data_root', labels='= labels', images='= images')
on_real = dict(
    resolution='= resolution',
    real_data='= real_data',
    first_real='= published_protocol',
    num_workers='= num_workers',
    cache='= cache_statistics',
)
on_videos = dict(
    num_fake='= num_test_videos',
    num_real='= num_test_videos',
    detector='= detector',
    **on_real,
)
on_images = dict(
    num_frames=1,
    clips_per_video='= frames_per_video',
    num_fake='= num_test_images',
    detector='= image_detector',
)

fvd2048_16f = dict(
    type='FrechetVideoDistance',
    num_frames='= min(16, num_test_frames)',
    **on_videos,
)
fvd2048_128f = dict(type='FrechetVideoDistance', num_frames=128, **on_videos)
fvd2048_128f_subsample8f = dict(
    type='FrechetVideoDistance', num_frames=16, frame_stride=8, **on_videos
)
kvd2048_16f = dict(
    type='KernelDistance', num_frames='= min(16, num_test_frames)', **on_videos
)
pr2048_16f = dict(
    type='PrecisionRecall',
    num_frames='= min(16, num_test_frames)',
    **on_videos,
)
flow2048_16f = dict(
    type='FlowDistance',
    num_frames='= min(16, num_test_frames)',
    num_fake='= num_test_videos',
    num_real='= num_test_videos',
    **on_real,
)
motion_16f = dict(
    type='MotionReport',
    num_frames='= min(16, num_test_frames)',
    num_fake='= num_test_videos',
    num_real='= num_test_videos',
    resolution='= resolution',
    real_data='= real_data',
)
isv2048_ucf = dict(
    type='InceptionScore',
    num_frames=16,
    num_fake='= num_test_videos',
    resolution='= resolution',
    detector='= action_detector',
)
fid50k_full = dict(
    type='FrechetVideoDistance',
    num_real='= None if published_protocol else num_test_images',
    **on_images,
    **on_real,
)
kid50k_full = dict(
    type='KernelDistance',
    num_real='= 1000000 if published_protocol else num_test_images',
    **on_images,
    **on_real,
)
fd50k_vgg16 = dict(fid50k_full, detector='= frame_detector')
is50k = dict(type='InceptionScore', resolution='= resolution', **on_images)

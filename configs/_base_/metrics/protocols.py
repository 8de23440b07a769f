# The published metrics by their names. A config lists those to measure:
# test_evaluator = ['= fvd2048_16f', '= fid50k_full']
# All of them use frames of the same generated clips. Metrics of 128 frames
# need num_test_frames = 128, metrics of 50,000 images num_test_images = 50000.
num_test_videos = 2048  # generated videos, and the most real ones
num_test_frames = 16  # frames in each generated video
num_test_images = 0  # generated frames for FID, KID and IS
num_clip_frames = '= min(16, num_test_frames)'  # frames per clip of *_16f
frames_per_video = '= num_clip_frames'  # images from each video
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
# Generated videos, and the real ones that they are compared with.
fake_videos = dict(num_fake='= num_test_videos', resolution='= resolution')
real_videos = dict(num_real='= num_test_videos', real_data='= real_data')
# The same for single frames.
fake_images = dict(
    num_frames=1,
    clips_per_video='= frames_per_video',
    num_fake='= num_test_images',
    resolution='= resolution',
    detector='= image_detector',
)
real_images = dict(num_real='= num_test_images', real_data='= real_data')
# How metrics with a cache read the real ones.
reading = dict(
    published='= published_protocol',
    num_workers='= num_workers',
    cache='= cache_statistics',
)
on_videos = dict(
    detector='= detector', **fake_videos, **real_videos, **reading
)

fvd2048_16f = dict(
    type='FrechetVideoDistance', num_frames='= num_clip_frames', **on_videos
)
fvd2048_128f = dict(fvd2048_16f, num_frames=128)
fvd2048_128f_subsample8f = dict(fvd2048_16f, num_frames=16, frame_stride=8)
kvd2048_16f = dict(fvd2048_16f, type='KernelDistance')
pr2048_16f = dict(fvd2048_16f, type='PrecisionRecall')
motion_16f = dict(
    type='MotionReport',
    num_frames='= num_clip_frames',
    **fake_videos,
    **real_videos,
)
flow2048_16f = dict(motion_16f, type='FlowDistance', **reading)
isv2048_ucf = dict(
    type='InceptionScore',
    num_frames=16,
    detector='= action_detector',
    **fake_videos,
)
fid50k_full = dict(
    type='FrechetVideoDistance', **fake_images, **real_images, **reading
)
kid50k_full = dict(fid50k_full, type='KernelDistance')
fd50k_vgg16 = dict(fid50k_full, detector='= frame_detector')
is50k = dict(type='InceptionScore', **fake_images)

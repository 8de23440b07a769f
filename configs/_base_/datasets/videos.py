# Any videos: a folder of video files, of frame folders, or a zip of these.
_base_ = ['../metrics/protocols.py']
data_root = 'data/videos'
labels = None  # 'folder' (one per class), a dataset.json or a csv
images = False  # True: images, in folders, a zip or an LMDB; one frame each
max_dist = 32  # frames from the first to the last of a training clip
flip_prob = 0.5  # share of mirrored clips; 0 where left is not right
num_workers = 4  # processes that decode, for each GPU

train_dataloader = dict(
    batch_size='= batch_size // num_processes',
    num_workers='= num_workers',
    sampler=dict(type='ClipSampler'),
    collate_fn=dict(type='stylegan_v_mm.collate_clips'),
    dataset=dict(
        type='VideoDataset',
        data_root='= data_root',
        labels='= labels',
        images='= images',
        min_num_frames='= num_frames',
        max_num_frames='= max_num_frames',
        pipeline=[
            # Two fake batches an iteration get times and labels, too.
            dict(
                type='SampleClip',
                num_frames='= num_frames',
                max_dist='= max_dist',
                num_gen=2,
            ),
            dict(type='LoadClip'),
            dict(type='ResizeCrop', resolution='= resolution'),
            dict(type='FlipClip', prob='= flip_prob'),
            dict(type='PackClip'),
        ],
    ),
)

# tools/test.py: clips of the average generator from seeds, against one clip
# of each real video; see ../metrics/protocols.py.
test_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    # Lists: clips may differ in length.
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='SeedDataset',
        num_videos='= num_test_videos',
        num_frames='= num_test_frames',
        # Of 50,000 images, those that the videos above do not give.
        extra_videos='= max('
        '-(-num_test_images // frames_per_video) - num_test_videos, 0)',
        extra_frames='= frames_per_video',
        data_root='= data_root',
        labels='= labels',
        images='= images',
    ),
)
test_evaluator = ['= fvd2048_16f']

# Any videos: a folder of video files or frame folders, or a zip of the latter.
_base_ = ['../metrics/protocols.py']
data_root = 'data/videos'
labels = None  # 'folder' (one per class), a dataset.json or a csv
images = False  # True: images in folders, a zip or an LMDB, one frame each
max_dist = 32  # frames from the first to the last of a training clip
flip_prob = 0.5  # share of mirrored clips; 0 if left and right differ
num_workers = 4  # processes that decode, per GPU

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
        max_num_frames='= max_num_frames',
        pipeline=[
            # Each iteration also needs times and labels of two fake batches.
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

# tools/test.py compares clips of the average generator, made from seeds, with
# one clip of each real video; see ../metrics/protocols.py.
test_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    # This makes lists, because clips may differ in length.
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='SeedDataset',
        num_videos='= num_test_videos',
        num_frames='= num_test_frames',
        # The rest of the 50,000 images, after those of the videos above.
        extra_videos='= max((num_test_images + frames_per_video - 1) '
        '// frames_per_video - num_test_videos, 0)',
        extra_frames='= frames_per_video',
        data_root='= data_root',
        labels='= labels',
        images='= images',
    ),
)
test_evaluator = ['= fvd2048_16f']

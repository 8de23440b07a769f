# RainbowJelly at 256 px, one long 4K video of jellyfish:
# https://www.youtube.com/watch?v=P8Bit37hlsQ
# The data are data/rainbow_jelly/<chunk>/<frame>.png, cut by
# python tools/dataset_converters/split_video.py rainbow_jelly.mp4 \
#     data/rainbow_jelly --resolution 256 --start-frame 150 --chunk-frames 512
# Published: 4 V100, about 2 days. 32.1 + 25.3 million parameters.
_base_ = ['./ucf101.py']
data_root = 'data/rainbow_jelly'
fps = 30

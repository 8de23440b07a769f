# RainbowJelly at 256 px: one long 4K video of jellyfish, cut in chunks of 512
# frames: data/rainbow_jelly/<chunk>.mp4.
_base_ = ['./ucf101.py']
data_root = 'data/rainbow_jelly'
fps = 30

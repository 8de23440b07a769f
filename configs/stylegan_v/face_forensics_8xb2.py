# Like face_forensics.py, but 2 clips of 2 frames on each of 8 GPUs: as many
# frames in 6 times as many iterations. 32.1 + 23.9 million parameters.
_base_ = ['./face_forensics.py']
num_frames = 2
batch_size = 16

# FaceForensics at 256 px: https://github.com/ondyari/FaceForensics
# The data are data/face_forensics/<video>/<frame>.jpg, faces cropped by
# python tools/dataset_converters/face_forensics.py \
#     FaceForensics_compressed/train data/face_forensics --format jpg
# Published: 4 V100, about 2 days. 32.1 + 25.3 million parameters.
_base_ = ['./ucf101.py']
data_root = 'data/face_forensics'
fps = 30

# FaceForensics at 256 px: https://github.com/ondyari/FaceForensics
# data/face_forensics/<video>/<frame>.jpg: faces, cropped.
_base_ = ['./ucf101.py']
data_root = 'data/face_forensics'
fps = 30

# LSUN cats at 256 px: like lsun_church.py, with the 1.66 million images in
# data/lsun/cat/data.mdb, or exported to data/lsun/cat/<image>.webp.
_base_ = ['./lsun_church.py']
data_root = 'data/lsun/cat'

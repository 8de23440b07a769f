# LSUN cats at 256 px, images; as lsun_church.py, but data/lsun/cat/data.mdb:
# 1.66 million images. Exported to data/lsun/cat/<image>.webp they do as well.
_base_ = ['./lsun_church.py']
data_root = 'data/lsun/cat'

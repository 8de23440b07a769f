# LSUN cars at 256 px, images; as lsun_church.py, but data/lsun/car/data.mdb:
# 5.5 million images, of which the central squares count.
_base_ = ['./lsun_church.py']
data_root = 'data/lsun/car'

# LSUN cars at 256 px: like lsun_church.py, with the central squares of the 5.5
# million images in data/lsun/car/data.mdb.
_base_ = ['./lsun_church.py']
data_root = 'data/lsun/car'

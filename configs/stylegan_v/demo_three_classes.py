# The toy model with labels: red, green and blue shapes.
# The data are data/three_colours/<class>/<video>.mp4, made by
# python tools/dataset_converters/moving_shapes.py data/three_colours \
#     --num-videos 300 --resolution 32 --by-class colour
_base_ = ['./demo_moving_shapes.py']
data_root = 'data/three_colours'
labels = 'folder'
num_classes = 3
# Among 256 numbers about time, three labels would have no influence.
model = dict(discriminator=dict(time_embed_dim=8))

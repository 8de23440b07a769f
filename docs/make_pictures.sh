#!/bin/sh
# Redraw the pictures of rc_track_64 in docs/images/ after its weights have
# changed. Run this from the root of the repository, in the environment:
#
#     sh docs/make_pictures.sh data/rc_track
#
# The folder is that of docs/data_preparation.md, with train/ and held_out/. The
# script takes half an hour on one core, half of it for the inversion, which needs
# LPIPS (tools/get_detectors.py). The picture of the web demo needs Chromium. The
# script prints the numbers that pages quote. Captions describe the pictures: check
# that they are still true.
set -e
data=${1:?the folder with the clips of rc_track}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
images=docs/images
generate="python tools/generate.py rc_track_64"
picture="python docs/make_picture.py"

# README: consecutive seeds above real clips that were held out.
held_out=$data/held_out
real="$held_out/day1_s1_20143_20291.mp4 $held_out/day2_s1_04189_04363.mp4
    $held_out/day2_s1_11541_11748.mp4 $held_out/day2_s1_17774_17893.mp4
    $held_out/day2_s2_05914_06230.mp4 $held_out/day2_s3_12335_12683.mp4"
$generate --num-videos 12 --num-frames 80 --format png --out "$work/seeds"
$picture "$work"/seeds/* $real --frames 0:80 --columns 6 \
    --resolution 64 --out $images/driving.webp

# Samples.
$generate --num-videos 36 --num-frames 36 --format png --out "$work/samples"
$picture "$work"/samples/* --frames 0:36:5 --columns 2 \
    --out $images/samples.png

# A thousand frames: compare the beginning and the end with real clips, and look
# for repetition.
$generate --num-videos 32 --num-frames 100 --format png --out "$work/first"
$generate --num-videos 32 --num-frames 100 --time-offset 900 --format png \
    --out "$work/last"
$generate --num-videos 4 --num-frames 1000 --format png --out "$work/long"
motion="python tools/analysis_tools/motion_report.py --resolution 64
    --out $work/motion.png"
$motion "$data/train" "$work/first" --num-frames 100
$motion "$data/train" "$work/last" --num-frames 100
$motion "$work/long" "$work/long" --num-frames 1000
$picture "$work"/long/* --frames 0:1000:111 --out $images/thousand_frames.png

# Time, content and motion.
$generate --seed 9 --num-frames 9 --slow-motion 4 --format png \
    --out "$work/slow"
$picture "$work"/slow/* --frames 0:9 --out $images/slow_motion.png
$generate --num-videos 6 --num-frames 32 --loop --grid --out $images/loop.gif
$generate --num-videos 4 --num-frames 25 --decomposition \
    --out "$work/decomposition.webp"
$picture "$work/decomposition.webp" --frames 0:25:6 \
    --out $images/decomposition.png

# Editing: three directions, and the second of them in the background only.
edit="python tools/edit.py rc_track_64 --seed 4"
$edit --num-components 3 --out "$work/sliders"
cp "$work/sliders/sliders_000004.png" $images/editing_sliders.png
python -c "from PIL import Image
mask = Image.new('L', (64, 64))
mask.paste(255, (0, 0, 64, 18))
mask.save('$work/mask.png')"
$edit --component 1 --num-frames 48 --out "$work/whole"
$edit --component 1 --num-frames 48 --mask "$work/mask.png" \
    --out "$work/region"
$generate --latents "$work/whole/before.safetensors" --num-frames 48 \
    --out "$work/before.mp4"
$picture "$work/before.mp4" "$work/whole/000004.mp4" \
    "$work/region/000004.mp4" --frames 0:48:6 --out $images/editing_mask.png

# What it learned from: 64 videos beside all training frames.
$generate --num-videos 64 --num-frames 32 --format png --out "$work/many"
python tools/analysis_tools/nearest_frames.py "$data/train" "$work/many" \
    "$held_out" --out $images/nearest_frames.png

# Inversion.
clip=$held_out/day2_s2_05914_06230.mp4
python tools/invert.py rc_track_64 --input "$clip" --start 40 \
    --out "$work/inverted"
$generate --latents "$work/inverted/latents.safetensors" --num-frames 16 \
    --out "$work/found.mp4"
$picture "$clip" "$work/found.mp4" --frames 40:56:2 0:16:2 --resolution 64 \
    --out $images/inversion.png

python docs/make_web_picture.py --out $images

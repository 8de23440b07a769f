"""Take pictures of the web demo, for docs/make_pictures.sh.

    python docs/make_web_picture.py --out docs/images

The live video (web_live.png, web_live_phone.png) and a grid of videos
(web_demo.png) of rc_track_64 in Chromium, which playwright finds as $CHROMIUM
or as chromium in PATH.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from stylegan_v_mm.cli import run_tool

APP = Path(__file__).parents[1] / 'projects/web_demo/app.py'
SHOWN = "() => document.querySelector('video')?.readyState >= 2"


def take_pictures(url: str, out: Path) -> None:
    """Watch, click through to a grid, and save what the page looks like."""
    chromium = os.environ.get('CHROMIUM') or shutil.which('chromium')
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport=dict(width=1280, height=890))
        page.goto(url)
        for name, width in (('web_live', 1280), ('web_live_phone', 390)):
            page.set_viewport_size(dict(width=width, height=890))
            inner = page.frame_locator('iframe.live')
            inner.get_by_text('frames a second').wait_for()
            page.wait_for_timeout(3000)  # The rate settles.
            page.screenshot(path=out / f'{name}.png')
        page.set_viewport_size(dict(width=1280, height=890))
        page.get_by_role('tab', name='Make', exact=True).click()
        page.get_by_role('tab', name='Content and motion').click()
        page.get_by_label('Rows and columns').first.fill('4')
        page.get_by_role('button', name='Make the grid').click()
        page.wait_for_function(SHOWN, timeout=60000)
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # The video fades in.
        page.screenshot(path=out / 'web_demo.png')
        browser.close()


def main() -> None:
    """Start the demo, take the pictures, and end the demo."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', type=Path, required=True, help='a folder')
    out = parser.parse_args().out
    server = subprocess.Popen(
        [sys.executable, APP, '--port', '0'], stdout=subprocess.PIPE, text=True
    )
    try:
        lines = iter(server.stdout.readline, '')
        found = (re.search(r'http://\S+', line) for line in lines)
        take_pictures(next(filter(None, found))[0], out)
    finally:
        server.terminate()
        server.wait()


if __name__ == '__main__':
    run_tool(main)

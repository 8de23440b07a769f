"""Take a picture of the web demo, for docs/make_pictures.sh.

    python docs/make_web_picture.py --out web_demo.png

It makes a grid of videos of rc_track_64 in Chromium, which playwright finds as
$CHROMIUM or as chromium in PATH.
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


def take_picture(url: str, out: Path) -> None:
    """Click through to a grid, and save what the page looks like."""
    chromium = os.environ.get('CHROMIUM') or shutil.which('chromium')
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport=dict(width=1280, height=890))
        page.goto(url)
        page.get_by_role('tab', name='Content and motion').click()
        page.get_by_label('Rows and columns').first.fill('4')
        page.get_by_role('button', name='Make the grid').click()
        page.wait_for_function(SHOWN, timeout=60000)
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # The video fades in.
        page.screenshot(path=out)
        browser.close()


def main() -> None:
    """Start the demo, take the picture, and end the demo."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', type=Path, required=True, help='png')
    out = parser.parse_args().out
    server = subprocess.Popen(
        [sys.executable, APP, '--port', '0'], stdout=subprocess.PIPE, text=True
    )
    try:
        lines = iter(server.stdout.readline, '')
        found = (re.search(r'http://\S+', line) for line in lines)
        take_picture(next(filter(None, found))[0], out)
    finally:
        server.terminate()
        server.wait()


if __name__ == '__main__':
    run_tool(main)

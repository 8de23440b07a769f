"""Projects are imported from the root of the repository."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2]))
# On networks this small, threads cost more than they bring.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope='module')
def browser():
    """A real browser.

    $CHROMIUM, or what lies in PATH as chromium, chromium-browser,
    google-chrome or chrome, or the one of ``playwright install chromium``.
    """
    playwright = pytest.importorskip(
        'playwright.sync_api', reason='requirements/tests.txt has playwright'
    )
    names = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
    path = os.environ.get('CHROMIUM') or next(
        filter(None, map(shutil.which, names)), None
    )
    with playwright.sync_playwright() as driver:
        if not path and not Path(driver.chromium.executable_path).exists():
            pytest.skip(
                'there is no Chromium: apt install chromium, or set CHROMIUM'
            )
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()

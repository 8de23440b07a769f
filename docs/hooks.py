"""Add pages from outside of ``docs``, and fix links and references."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]


def on_files(files, config):
    """Add the Markdown files and pictures outside of ``docs``."""
    for pattern in (
        *('C*.md', 'S*.md', 'stylegan_v_mm/zoo/*.md'),
        *('projects/**/*.md', 'projects/**/*.png'),
    ):
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(
                File(
                    name, str(ROOT), config.site_dir, config.use_directory_urls
                )
            )
    return files


def on_page_markdown(markdown, page, **_):
    """Make links point to the pages of the site, not of the repository."""
    if page.file.src_dir == str(ROOT):
        up = '../' * page.file.src_uri.count('/')
        return markdown.replace(f']({up}docs/', f']({up}')
    return markdown.replace('](../', '](')


def on_page_content(html, **_):
    """Show the names that docstrings refer to, without their roles."""
    role = r':(?:attr|class|data|func|meth|mod):<code>(?:~[\w.]*\.)?'
    return re.sub(role, '<code>', html)

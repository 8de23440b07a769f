"""What the Markdown files say to type: finding it, and running it.

Each fenced block names its language. Commands are ``bash``: those that start
a Python script are run, each as a process forked from one that has imported
what takes seconds. A comment in the line before a block says more::

    <!-- not run: REASON -->    only scripts, options and targets are checked
    <!-- file: PATH -->         the block is this file, a config
    <!-- config -->             the block is part of a config
    <!-- continued -->          goes on from the Python block before
"""

import glob
import re
import shlex
from typing import NamedTuple

LANGUAGES = {'bash', 'bibtex', 'python', 'text'}
COMMENTS = ('not run', 'file', 'config', 'continued')

FENCE = re.compile(
    r'(?:^<!-- (?P<comment>[\w ]+?)(?:: (?P<value>.+?))? -->\n)?'
    r'^```(?P<language>.*)\n(?P<text>(?:.*\n)*?)^```$',
    re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block, and what the comment before it says."""

    language: str
    text: str
    comment: str | None
    value: str | None
    line: int


class Command(NamedTuple):
    """A command: variables set for it, and its words."""

    variables: dict
    words: list


def blocks_of(path):
    """Give the blocks of a Markdown file."""
    text = path.read_text()
    return [
        Block(
            match['language'],
            match['text'],
            match['comment'],
            match['value'],
            text.count('\n', 0, match.start('language')) + 1,
        )
        for match in FENCE.finditer(text)
    ]


def commands_of(block):
    """Split the text of a block of commands as a shell would."""
    commands = []
    for line in block.text.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        variables = {}
        while words and re.match(r'[A-Z_]+=', words[0]):
            name, _, value = words.pop(0).partition('=')
            variables[name] = value
        if words:
            commands.append(Command(variables, words))
    return commands


def without_stars(words, folder):
    """Replace patterns of file names by the files in the folder."""
    found = []
    for word in words:
        names = sorted(glob.glob(word, root_dir=folder)) if '*' in word else []
        found.extend(names or [word])
    return found

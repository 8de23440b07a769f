"""Survey a data set: its contents, reading speed, and a config for it."""

from .contents import Survey, describe, flaws, survey_videos
from .findings import Finding, describe_findings, look_at_videos
from .motion import Motion, config_lines, measure_motion
from .pictures import contact_sheet, findings_sheet, histograms
from .reading import Reading, advise, largest_resolution, measure_reading

__all__ = [
    'Finding',
    'Motion',
    'Reading',
    'Survey',
    'advise',
    'config_lines',
    'contact_sheet',
    'describe',
    'describe_findings',
    'findings_sheet',
    'flaws',
    'histograms',
    'largest_resolution',
    'look_at_videos',
    'measure_motion',
    'measure_reading',
    'survey_videos',
]

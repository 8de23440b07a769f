"""Pictures of what was trained and measured."""

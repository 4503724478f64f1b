"""The same objectives and rewards inside other trainers."""

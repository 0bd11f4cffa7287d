"""What crosses a process border, as JSON over HTTP.

Times are in seconds (`_s`), sizes in bytes (`_bytes`), moments in seconds since the Unix epoch (`_at`).
Readers ignore fields they do not know, so that programs of neighbouring versions understand each other.
"""

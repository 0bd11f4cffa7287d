"""Transcription by Whisper models: windows of many recordings written down together, token by token."""

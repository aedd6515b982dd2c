"""Isolated processes in which libraries touch rows: one that dies is a failed call, never a dead server."""

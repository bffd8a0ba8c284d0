"""The terminal room: the bytes of a PTY become something for people, and people's keys become bytes for a PTY."""

"""Pictures, videos, streams: from bytes to RGB arrays."""

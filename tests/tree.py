"""What is in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path


def tree_hash(path: Path) -> dict[str, str]:
    """Hash of every file under a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

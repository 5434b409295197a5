"""The demo: a small made-up company, its sources on loopback, and the truth about what they hold.

``generate`` writes the world, ``start_servers`` serves it, ``write_config`` writes a
``hearback.toml`` that reads it, ``serve`` does all three and remembers the day and the ports.
"""

from __future__ import annotations

from pipelines.demo.serving import (
    DemoServers,
    demo_connections,
    generate,
    remembered_until,
    serve,
    start_servers,
    write_config,
)
from pipelines.demo.truth import Truth

__all__ = [
    "DemoServers",
    "Truth",
    "demo_connections",
    "generate",
    "remembered_until",
    "serve",
    "start_servers",
    "write_config",
]

"""docs/reliability.json: what the long campaigns have counted so far. Each run adds to it.

python -m tests.ledger      prints it as a table
"""

from __future__ import annotations

import json
import os
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "docs" / "reliability.json"


def read() -> dict[str, dict[str, dict[str, float]]]:
    """Returns {campaign: {target: {what: how often}}}."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def add(campaign: str, target: str, **counts: float) -> None:
    """Adds counts to those of the runs before."""
    ledger = read()
    entry = ledger.setdefault(campaign, {}).setdefault(target, {})
    for name, count in {"runs": 1, **counts}.items():
        entry[name] = round(entry.get(name, 0) + count)
    temporary = PATH.with_suffix(".tmp")
    temporary.write_text(json.dumps(ledger, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, PATH)


if __name__ == "__main__":
    for campaign, targets in read().items():
        for target, counts in targets.items():
            print(f"| {campaign} | {target} | {', '.join(f'{count} {name}' for name, count in counts.items())} |")

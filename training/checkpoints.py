"""Where a fine-tuning that was stopped goes on."""

import json
from pathlib import Path


def newest_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of a `transformers` trainer in `folder`; None where there is none.

    One whose writing was cut short lacks the trainer's state, which is written last: it is passed over, and the trainer
    writes over it.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda each: int(each.name.rpartition("-")[2]))
    return next((str(each) for each in reversed(found) if _whole(each)), None)


def _whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True

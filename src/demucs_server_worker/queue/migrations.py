"""Brings a database to the schema that this version knows. `PRAGMA user_version` says which one it has."""

from __future__ import annotations

from demucs_server_worker.errors import QueueCorrupt, QueueTooNew
from demucs_server_worker.queue.database import Database
from demucs_server_worker.queue.statements import migrations


def migrate(database: Database) -> None:
    """Run the migrations that `database` lacks, all of them or none.

    Raises:
        QueueTooNew: a newer version of this project wrote it.
        QueueCorrupt: it has tables of something else.
    """
    known = len(migrations())
    if database.pragma("user_version") == known:
        return
    with database.transaction():
        # Read again under the write lock: another process may have migrated between the two.
        found = database.pragma("user_version")
        if found > known:
            raise QueueTooNew(path=database.path, found=found, known=known)
        if found == 0 and database.one("any_table") is not None:
            raise QueueCorrupt(path=database.path, detail="it holds the tables of another program")
        for script in migrations()[found:]:
            database.script(script)
        database.script(f"PRAGMA user_version = {known};")

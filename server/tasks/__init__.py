"""The Tasks extension: work that takes long, handed to clients that declare it as a task they can poll."""

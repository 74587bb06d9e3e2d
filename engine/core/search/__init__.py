"""Search of parameters: which points there are, how good they are, and whether their neighbours agree."""

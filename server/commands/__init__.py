"""One file a command; at module level they import nothing but click, so that listing them stays cheap."""

"""One typed function is one tool; a file is a family of three to eight of them."""

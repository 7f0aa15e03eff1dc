"""What the commands do: from their arguments to their exit codes, and what they print."""

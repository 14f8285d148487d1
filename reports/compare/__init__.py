"""Two results judged cell by cell, and shown side by side."""

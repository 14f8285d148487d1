"""Results handed in by others, checked and ranked: `pudle submit`, `pudle leaderboard` and the
site's page.
"""

"""What leaves this machine: repositories for plug-ins, and results handed in to the leaderboard."""

"""Commands of the command line that belong to the core; those that measure and report live with what they run."""

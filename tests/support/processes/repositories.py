"""Git repositories that tests make."""

import subprocess


def git(folder, *arguments):
    """Run git in a folder as some author, and return what it prints."""
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(folder):
    """Make a repository with one empty commit, and return its folder."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder

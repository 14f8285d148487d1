"""What leaves this machine: repositories for plug-ins."""

"""Two commits built and measured side by side."""

"""Where rows come from: private files, made to fit their metadata, and dummy rows made from metadata alone."""

"""The claims about normalization, one experiment each."""

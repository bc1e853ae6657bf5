"""From command line arguments to the configuration that is trained."""

"""Tables and figures of analyses."""

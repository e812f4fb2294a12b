"""manyhands."""

"""From records to rows with intervals."""

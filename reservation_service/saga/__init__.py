"""The long behaviour: from a hold to a confirmed booking across two services, or back to where it began."""

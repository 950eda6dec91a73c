"""Everything that runs Holdfast without being Holdfast: the only place that may know both services."""
